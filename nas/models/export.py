"""A developed model as files: a Hugging Face folder and an ONNX model that agree."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from latency.onnx_graph import classifier_model
from latency.runtimes import runtime_of
from latency.target import Target
from nas.models.saving import save_model
from nas.store.result_folder import MODEL, ONNX
from supernet.errors import NasError
from supernet.student import architecture_of, shape_of

_WEIGHTS = "tailorbert.weights"  # in the graph's metadata

TOLERANCE = 1e-4
"""How far an ONNX logit may lie from PyTorch's, relative to logits of size 1."""


def export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    sample: Mapping[str, Tensor],
) -> None:
    """Write ``model/`` (config, weights, tokenizer) and ``model.onnx`` into ``folder``.

    Args:
        model: BERT or TailorBERT, in evaluation mode.
        sample: real inputs, (batch, tokens) each, on which both forms must agree.

    Raises:
        NasError: they do not, or an activation that the ONNX form does not have.
    """
    save_model(model, tokenizer, folder / MODEL)
    save_onnx(onnx_model(model), folder / ONNX, folder / MODEL)
    difference = onnx_difference(model, folder / ONNX, sample)
    if not difference <= TOLERANCE:
        raise NasError(
            f"the ONNX model's logits differ from PyTorch's by {difference:.1e}, "
            f"more than {TOLERANCE:.0e}"
        )


def save_onnx(graph: onnx.ModelProto, path: Path, folder: Path) -> None:
    """Write a graph that says which model folder's weights it holds, in whatever form."""
    onnx.helper.set_model_props(graph, {_WEIGHTS: weights_digest(folder)})
    onnx.save(graph, str(path))


def onnx_of(folder: Path) -> Path | None:
    """The ``model.onnx`` beside a model folder, if it was written of the weights that lie there."""
    path = folder.parent / ONNX
    if folder.name != MODEL or not path.is_file():
        return None
    try:
        graph = onnx.load(str(path), load_external_data=False)
    except Exception:  # noqa: BLE001 - protobuf's, which has no types: no ONNX model, none of ours
        return None
    told = {entry.key: entry.value for entry in graph.metadata_props}
    return path if told.get(_WEIGHTS) == weights_digest(folder) else None


def weights_digest(folder: Path) -> str:
    """Of all weight files of a model folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def onnx_model(model: PreTrainedModel) -> onnx.ModelProto:
    """The ONNX form of a BERT or TailorBERT classifier."""
    config: Any = model.config
    weights = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
    return classifier_model(
        architecture_of(config),
        shape_of(config),
        weights,
        layer_norm_eps=config.layer_norm_eps,
    )


@torch.inference_mode()
def onnx_difference(model: PreTrainedModel, path: Path, sample: Mapping[str, Tensor]) -> float:
    """The largest difference of the two forms' logits, relative where they exceed 1."""
    size = tuple(sample["input_ids"].shape)
    target = Target(threads=1, batch_size=size[0], sequence_length=size[1])
    inputs = {"token_type_ids": np.zeros(size, np.int64)} | {
        name: values.cpu().numpy() for name, values in sample.items()
    }
    expected = model(**{n: v.to(model.device) for n, v in sample.items()}).logits.cpu().numpy()
    actual = runtime_of(target).load(path, target)(inputs)
    return float(np.max(np.abs(actual - expected) / np.maximum(np.abs(expected), 1.0)))
