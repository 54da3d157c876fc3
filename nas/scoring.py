"""What scores sub-networks with the weights they inherit: plain arrays, from which any process
builds the same scorer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from nas.evaluate import Collate, accelerator, batches_by_length
from nas.metrics import compute
from nas.tokenization import EncodedExamples
from supernet.architecture import Architecture
from supernet.distill.fitted_start import fit_to_teacher
from supernet.model import Supernet

Arrays = Mapping[str, NDArray[Any]]
Score = Callable[[Architecture, float], float]
"""From an architecture and the share of the examples to score it on, to its score."""


class Scorer(Protocol):
    """Travels between processes, and becomes a function where it is needed."""

    def build(self) -> Score:
        """What scores an architecture in this process; called once in each."""


@dataclass(frozen=True)
class SupernetScorer:
    """Scores a supernet's sub-networks on validation data.

    The arrays may lie in memory that several processes read and none may write: they are never
    copied where they are used on a CPU. With as many threads, every process finds the same scores
    to the bit.

    Args:
        config: of the supernet's BERT.
        weights: its state, by name.
        batches: padded model inputs of the validation data, (batch, tokens) each.
        labels: (examples,), in the order of the batches.
        metric: that is computed of all predictions.
        texts: batches without labels, that the factors of compressed sub-networks are fitted on.
    """

    config: BertConfig
    weights: Arrays
    batches: tuple[Arrays, ...]
    labels: NDArray[Any]
    metric: str
    texts: tuple[Arrays, ...] = ()

    @classmethod
    def of(
        cls,
        supernet: Supernet,
        validation: EncodedExamples,
        collate: Collate,
        metric: str,
        texts: Sequence[Mapping[str, Tensor]] = (),
    ) -> SupernetScorer:
        """The scorer of a supernet on labelled examples."""
        assert validation.labels is not None
        rows, batches = zip(*batches_by_length(validation, collate), strict=True)
        return cls(
            supernet.weights.config,
            _arrays(supernet.weights.state_dict()),
            tuple(map(_arrays, batches)),
            np.asarray(validation.labels)[np.concatenate(rows)],
            metric,
            tuple(map(_arrays, texts)),
        )

    def build(self) -> Score:
        device = accelerator()
        model = BertForSequenceClassification(self.config)
        model.load_state_dict(_tensors(self.weights), assign=True)
        supernet = Supernet(model).eval().to(device)
        texts = [_tensors(batch, device) for batch in self.texts]

        @cache
        def examples(share: float) -> tuple[list[dict[str, Tensor]], NDArray[Any]]:
            batches, labels = self._part(share)
            return [_tensors(batch, device) for batch in batches], labels

        def score(architecture: Architecture, share: float) -> float:
            logits = sub_network(supernet, architecture, texts)
            batches, labels = examples(share)
            with torch.inference_mode():
                predicted = torch.cat([logits(batch).float() for batch in batches])
            return compute(self.metric, predicted.cpu().numpy(), labels)

        return score

    def _part(self, share: float) -> tuple[Sequence[Arrays], NDArray[Any]]:
        """A share of each batch and its labels, the same in every process, of all lengths."""
        if share == 1:
            return self.batches, self.labels
        rng = np.random.default_rng(0)
        batches, labels, start = [], [], 0
        for batch in self.batches:
            size = len(batch["input_ids"])
            rows = np.sort(rng.permutation(size)[: max(1, round(share * size))])
            batches.append({name: values[rows] for name, values in batch.items()})
            labels.append(self.labels[start + rows])
            start += size
        return batches, np.concatenate(labels)


def sub_network(
    supernet: Supernet, architecture: Architecture, texts: Sequence[Mapping[str, Tensor]]
) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """From batches to a sub-network's logits: in place, or with factors fitted to it.

    Args:
        texts: batches without labels, that factors are fitted on.
    """
    if not architecture.is_factored:
        return lambda batch: supernet(**batch, architecture=architecture).logits
    model = supernet.blank(architecture)
    fit_to_teacher(model, supernet.extract(architecture.whole), texts)
    return lambda batch: model(**batch).logits


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: values.cpu().numpy() for name, values in tensors.items()}


def _tensors(arrays: Arrays, device: torch.device | None = None) -> dict[str, Tensor]:
    """The same memory as tensors, on a CPU; whoever writes to it may end the process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {name: torch.from_numpy(values).to(device) for name, values in arrays.items()}
