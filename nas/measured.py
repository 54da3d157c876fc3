"""A finished model, wherever it came from: its score on data and its latency here."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from latency.runtimes import Model, runtime_of
from latency.target import Target
from nas.data import TaskData
from nas.device import time_models
from nas.evaluate import accelerator, collator, score
from nas.export import MODEL, onnx_model
from nas.labels import align_labels, check_labels
from nas.tokenization import encode
from supernet.errors import NasError
from supernet.student import architecture_of, shape_of


def model_folder(path: Path) -> Path:
    """The Hugging Face folder at ``path`` or, in a result of ours, in its ``model/``.

    Raises:
        NasError: neither holds a model.
    """
    for folder in (path, path / MODEL):
        if (folder / "config.json").is_file():
            return folder
    raise NasError(f"{path} holds no model: neither config.json nor {MODEL}/config.json")


def evaluate_folder(
    folder: Path, data: TaskData, split: str, target: Target, *, max_length: int
) -> dict[str, str]:
    """What there is to say of a model, name by value, for people.

    Raises:
        NasError: a model that does not load, an unknown split, or a head for other labels.
    """
    if split not in ("train", "validation", "test"):
        raise NasError(f"split must be train, validation or test, not {split!r}")
    try:
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise NasError(f"{folder} does not load: {str(error).splitlines()[0]}") from error
    model.eval().to(accelerator())
    architecture = architecture_of(model.config)
    check_labels(f"model {folder}", model.config, data.task)
    align_labels(model, data.task)
    examples = encode(getattr(data, split), tokenizer, max_length)
    value = score(
        lambda batch: model(**batch).logits,
        examples,
        collator(tokenizer),
        model.device,
        data.task.metric,
    )
    (latency,) = time_models([_served(model, folder, target)], target, shape_of(model.config))
    return {
        "architecture": str(architecture),
        "parameters": f"{model.num_parameters():,}",
        f"{data.task.metric} ({split}, {len(examples)} examples)": f"{value:.4f}",
        "target": str(target),
        "p50": f"{latency.p50_ms:.3f} ms",
        "p95": f"{latency.p95_ms:.3f} ms",
    }


def _served(model: PreTrainedModel, folder: Path, target: Target) -> Model:
    """The model in the form that the target's runtime serves."""
    runtime = runtime_of(target)
    if target.runtime != "onnxruntime":
        return runtime.load(folder, target)
    with tempfile.TemporaryDirectory() as scratch:
        onnx.save(onnx_model(model), f"{scratch}/model.onnx")
        return runtime.load(Path(scratch) / "model.onnx", target)
