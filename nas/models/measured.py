"""A finished model, wherever it came from: loaded, and in the form that a runtime serves."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import onnx
import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from latency.runtimes import Model, runtime_of
from latency.target import Target
from nas.data.tokenization import EncodedExamples, load_tokenizer
from nas.models.evaluate import Collate, Logits, accelerator, score
from nas.models.export import onnx_model, onnx_of
from nas.models.model_folders import CONFIG, without_model
from nas.store.result_folder import MODEL, ONNX
from nas.tasks.kinds import Head
from nas.tasks.labels import head_of
from supernet.convert import HEAD_CONVERTS, as_bert
from supernet.errors import NasError
from supernet.loading import load_config, load_whole

OURS = ("bert", "tailorbert")
"""Types of the models that we write."""

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
"""Of a parameter."""


def model_folder(path: Path) -> Path:
    """The Hugging Face folder at ``path`` or, in a result of ours, in its ``model/``.

    Raises:
        NasError: neither holds a model.
    """
    for folder in (path, path / MODEL):
        if (folder / CONFIG).is_file():
            return folder
    raise NasError(f"{path} holds no model: {without_model(path)}")


def load_model(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A classifier in evaluation mode, and its tokenizer.

    One of a type whose head is BERT's under other names, as RoBERTa's, becomes stock BERT.

    Raises:
        NasError: either does not load whole, the model has no trained head, or is of another type.
    """
    model = load_whole(AutoModelForSequenceClassification, folder, f"model {folder}")
    if model.config.model_type not in OURS:
        if model.config.model_type not in HEAD_CONVERTS:
            raise NasError(
                f"model {folder} is of type {model.config.model_type!r}; classifiers are read of "
                f"types {', '.join((*HEAD_CONVERTS, *OURS[1:]))}"
            )
        model = as_bert(model)
    return model.eval(), load_tokenizer(folder, f"model {folder}")


def model_head(folder: Path) -> Head | None:
    """What a model folder's head predicts; None where it has classes without names.

    Raises:
        NasError: it cannot be read.
    """
    return head_of(load_config(folder, f"model {folder}"))


def score_as_served(
    model: PreTrainedModel,
    ready: Model,
    target: Target,
    examples: EncodedExamples,
    collate: Collate,
    metric: str,
) -> float:
    """The metric of a model as the target's runtime computes it, in the target's number type.

    Args:
        model: in float32.
        ready: as the target's runtime serves it.
    """
    if target.runtime == "onnxruntime":
        return score(onnx_logits(ready), examples, collate, torch.device("cpu"), metric)
    dtype = getattr(torch, target.dtype)
    torch.nn.Module.to(model, device=accelerator(), dtype=dtype)
    value = score(lambda batch: model(**batch).logits, examples, collate, model.device, metric)
    torch.nn.Module.to(model, dtype=torch.float32)
    return value


def onnx_logits(model: Model) -> Logits:
    """A model of ONNX Runtime as a function of batches."""

    def logits(batch: Mapping[str, Tensor]) -> Tensor:
        inputs = {"token_type_ids": torch.zeros_like(batch["input_ids"])} | dict(batch)
        return torch.from_numpy(model({name: values.numpy() for name, values in inputs.items()}))

    return logits


class Served(NamedTuple):
    """A model in the form that a target's runtime serves.

    Args:
        megabytes: of its file or, where it has none of its own, of its parameters.
    """

    run: Model
    megabytes: float


def served(model: PreTrainedModel, folder: Path, target: Target, order: Sequence[int]) -> Served:
    """The model of a folder in the form that the target's runtime serves.

    In ONNX Runtime with float32 that is the ``model.onnx`` beside the folder, where one was written
    of its weights: it may hold them in 8 bits, or matrices formed from factors.

    Args:
        model: its head in the order of the task's labels.
        folder: with the model's ``config.json``.
        order: where the folder's own logits stand, by their place in the model.
    """
    runtime = runtime_of(target)
    megabytes = model.num_parameters() * BYTES[target.dtype] / 1e6
    if target.runtime != "onnxruntime":
        return Served(runtime.load(folder, target), megabytes)
    own = onnx_of(folder) if target.dtype == "float32" else None
    if own is not None:
        run = runtime.load(own, target)
        if list(order) != sorted(order):
            return Served(lambda inputs: run(inputs)[:, order], own.stat().st_size / 1e6)
        return Served(run, own.stat().st_size / 1e6)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / ONNX
        onnx.save(onnx_model(model), str(path))
        return Served(runtime.load(path, target), megabytes)
