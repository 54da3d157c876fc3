"""What a finished model answers to single texts, as its file is served, and how long it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latency.beside import held
from latency.runtimes import bound
from latency.target import Target
from latency.timing import Protocol, measure
from nas.data.task_data import Examples
from nas.data.tokenization import encode
from nas.models.evaluate import collator
from nas.models.measured import load_model, onnx_logits, served
from nas.tasks.labels import head_of
from supernet.errors import NasError

FEW_CALLS = Protocol(rounds=5, extra_rounds=2, patience_ms=50.0)
"""Enough for a first impression; ``nas evaluate`` measures."""


@dataclass(frozen=True)
class Answer:
    """What a model answers to a text, or a pair of texts.

    Args:
        told: the name of the class with the largest probability, or the value.
        confidence: that probability, by softmax; None for a value.
        milliseconds: median of a few calls, tokenization left out.
        tokens: that the model read.
        is_cut: whether the text has more tokens than the model can read.
    """

    told: str
    confidence: float | None
    milliseconds: float
    tokens: int
    is_cut: bool


def answers(folder: Path, texts: Examples, target: Target) -> Iterator[Answer]:
    """A model's answers, one after the other.

    Args:
        folder: with the model's ``config.json``.

    Raises:
        NasError: another target than ONNX Runtime on the CPU in float32, or no model that loads.
    """
    if (target.runtime, target.device, target.dtype) != ("onnxruntime", "cpu", "float32"):
        raise NasError(f"target {target}: give one of onnxruntime on the cpu with dtype float32")
    model, tokenizer = load_model(folder)
    head, labels = head_of(model.config), model.config.num_labels
    most = min(model.config.max_position_embeddings, tokenizer.model_max_length)
    with held(target):
        run = served(model, folder, target, range(labels)).run
    whole = encode(texts, tokenizer, int(1e6)).lengths
    encoded, collate = encode(texts, tokenizer, most), collator(tokenizer)
    for row, tokens in enumerate(encoded.lengths):
        batch = collate([encoded[row]])
        inputs = {name: values.numpy() for name, values in batch.items()}
        inputs.setdefault("token_type_ids", np.zeros_like(inputs["input_ids"]))
        with held(target):
            (latency,) = measure([bound(run, inputs)], protocol=FEW_CALLS)
        (logits,) = onnx_logits(run)(batch).double().numpy()
        confidence = None
        if head is not None and head.kind.outputs is not None:
            told = f"{logits.item():.4g}"
        else:
            best = int(logits.argmax())
            told = f"class {best}" if head is None else head.names[best]
            confidence = float(1 / np.exp(logits - logits[best]).sum())
        yield Answer(told, confidence, latency.p50_ms, tokens, whole[row] > tokens)
