"""What a model predicts on encoded examples, and how good that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from nas.data.tokenization import EncodedExamples
from nas.tasks.metrics import compute
from supernet.training import computes_in_bfloat16

Logits = Callable[[Mapping[str, Tensor]], Tensor]
"""From a padded batch of model inputs to logits (batch, num_labels)."""

Collate = Callable[[list[Mapping[str, Any]]], dict[str, Tensor]]


def collator(tokenizer: PreTrainedTokenizerBase) -> Collate:
    """Pads rows on the right to the longest of a batch."""
    pad = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0, "token_type_ids": 0}

    def collate(rows: list[Mapping[str, Any]]) -> dict[str, Tensor]:
        tokens = max(len(row["input_ids"]) for row in rows)
        batch = {
            name: torch.tensor(
                [row[name] + [pad[name]] * (tokens - len(row[name])) for row in rows]
            )
            for name in rows[0]
            if name != "labels"
        }
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        return batch

    return collate


def accelerator() -> torch.device:
    """Where forward passes are fastest here: the device that training takes, too."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def quickly(device: torch.device) -> torch.autocast:
    """Within it, matrix products are in bfloat16 where that is native.

    For choices among models, a few times faster; what is told of a finished one is in float32.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=computes_in_bfloat16())


@torch.inference_mode()
def predict(
    logits: Logits,
    examples: EncodedExamples,
    collate: Collate,
    device: torch.device,
    *,
    batch_size: int = 64,
) -> NDArray[np.float32]:
    """Logits of every example, (examples, num_labels), in the examples' order.

    Args:
        device: of the model; batches are moved there.
    """
    order: list[NDArray[np.intp]] = []
    predicted: list[Tensor] = []
    for rows, batch in batches_by_length(examples, collate, batch_size):
        on_device = {name: values.to(device) for name, values in batch.items()}
        order.append(rows)
        predicted.append(logits(on_device).float().cpu())
    return torch.cat(predicted).numpy()[np.argsort(np.concatenate(order))]


def batches_by_length(
    examples: EncodedExamples, collate: Collate, batch_size: int = 64
) -> Iterator[tuple[NDArray[np.intp], dict[str, Tensor]]]:
    """Model inputs without labels, like lengths together: little padding.

    Each batch, (batch, tokens), comes with the rows of ``examples`` that it holds, (batch,).
    """
    order = np.argsort(examples.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = collate([examples[int(row)] for row in rows])
        batch.pop("labels", None)
        yield rows, batch


def score(
    logits: Logits,
    examples: EncodedExamples,
    collate: Collate,
    device: torch.device,
    metric: str,
) -> float:
    """The metric of a model's predictions on labelled examples."""
    return scores(logits, examples, collate, device, (metric,))[metric]


def scores(
    logits: Logits,
    examples: EncodedExamples,
    collate: Collate,
    device: torch.device,
    metrics: Sequence[str],
) -> dict[str, float]:
    """Several metrics of the same predictions, by name."""
    assert examples.labels is not None
    predicted = predict(logits, examples, collate, device)
    labels = np.asarray(examples.labels)
    return {metric: compute(metric, predicted, labels) for metric in metrics}
