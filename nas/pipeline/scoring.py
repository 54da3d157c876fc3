"""What scores sub-networks before any of them is developed: plain arrays, from which any process
builds the same scorer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from nas.data.tokenization import EncodedExamples
from nas.models.evaluate import Collate, Logits, accelerator, batches_by_length, quickly
from nas.models.quality import agreement
from nas.pipeline.recipe import Scores
from nas.search.expected import outlook
from nas.tasks.metrics import compute
from supernet.architecture import Architecture
from supernet.distill.evidence import Evidence
from supernet.distill.fitted_start import fit, fit_to_teacher, repair
from supernet.distill.packed_texts import PackedTexts
from supernet.model import Supernet

EDITION = 5
"""Of what a score is: raised when the same candidate comes to have another."""

Arrays = Mapping[str, NDArray[Any]]
Score = Callable[[Architecture], float]


class Scorer(Protocol):
    """Travels between processes, and becomes a function where it is needed."""

    def build(self) -> Score:
        """What scores an architecture in this process; called once in each."""


@dataclass(frozen=True)
class SupernetScorer:
    """Scores a supernet's sub-networks: inherited ones by the metric on labelled examples, others
    by how far they agree with the teacher (:func:`nas.models.quality.agreement`).

    The arrays may lie in memory that several processes read and none may write: they are never
    copied where they are used on a CPU. With as many threads, every process finds the same scores
    to the bit.

    Args:
        config: of the supernet's BERT.
        weights: its state, by name.
        batches: padded model inputs of the examples, (batch, tokens) each.
        labels: (examples,), in the order of the batches.
        metric: that is computed of all predictions.
        texts: batches without labels, that sub-networks are fitted on.
        scores: with which weights: ``inherited`` from the supernet, ``repaired`` so that they
            compute more of what the teacher does, or ``fitted`` to it without the supernet's.
        teacher: its weights, by name, its units in the supernet's order; needed but for inherited.
    """

    config: BertConfig
    weights: Arrays
    batches: tuple[Arrays, ...]
    labels: NDArray[Any]
    metric: str
    texts: tuple[Arrays, ...] = ()
    scores: Scores = "inherited"
    teacher: Arrays | None = None

    @classmethod
    def of(
        cls,
        supernet: Supernet,
        examples: EncodedExamples,
        collate: Collate,
        metric: str,
        texts: Sequence[Mapping[str, Tensor]] = (),
        scores: Scores = "inherited",
        teacher: Supernet | None = None,
    ) -> SupernetScorer:
        """The scorer of a supernet on examples with labels.

        Args:
            teacher: from which it learnt, its units in the same order.
        """
        assert examples.labels is not None
        rows, batches = zip(*batches_by_length(examples, collate), strict=True)
        return cls(
            supernet.weights.config,
            _arrays(supernet.weights.state_dict()),
            tuple(map(_arrays, batches)),
            np.asarray(examples.labels)[np.concatenate(rows)],
            metric,
            tuple(map(_arrays, texts)),
            scores,
            None if teacher is None else _arrays(teacher.weights.state_dict()),
        )

    def build(self) -> Score:
        device = accelerator()
        supernet = _supernet(self.config, self.weights, device)
        texts = [_tensors(batch, device) for batch in self.texts]
        batches = [_tensors(batch, device) for batch in self.batches]
        evidence, theirs = None, None
        if self.teacher is not None:
            teacher = _supernet(self.config, self.teacher, device)
            evidence = Evidence(teacher.weights, PackedTexts.of(texts))
            theirs = _predicted(lambda batch: teacher(**batch).logits, batches)

        def score(architecture: Architecture) -> float:
            if evidence is None or self.scores == "inherited":
                logits = sub_network(supernet, architecture, texts)
            else:
                logits = solved(supernet, architecture, evidence, self.scores)
            predicted = _predicted(logits, batches)
            if theirs is None:
                return compute(self.metric, predicted, self.labels)
            found = agreement(self.metric, predicted, theirs)
            fits = self.scores == "fitted"
            return outlook(found, 1.0, architecture.num_layers) if fits else found

        return score


def sub_network(
    supernet: Supernet, architecture: Architecture, texts: Sequence[Mapping[str, Tensor]]
) -> Logits:
    """From batches to a sub-network's logits: in place, or with factors fitted to it.

    Args:
        texts: batches without labels, that factors are fitted on.
    """
    if not architecture.is_factored:
        return lambda batch: supernet(**batch, architecture=architecture).logits
    model = supernet.blank(architecture)
    fit_to_teacher(model, supernet.extract(architecture.whole), texts)
    return lambda batch: model(**batch).logits


def solved(
    supernet: Supernet, architecture: Architecture, evidence: Evidence, scores: Scores
) -> Logits:
    """From batches to the logits of a sub-network that is repaired, or fitted to the teacher.

    One with factored matrices is fitted in any case.
    """
    if scores == "repaired" and not architecture.is_factored:
        model = supernet.extract(architecture)
        repair(model, evidence)
    else:
        model = supernet.blank(architecture)
        fit(model, evidence)
    return lambda batch: model(**batch).logits


def _supernet(config: BertConfig, weights: Arrays, device: torch.device) -> Supernet:
    model = BertForSequenceClassification(config)
    model.load_state_dict(_tensors(weights), assign=True)
    return Supernet(model).eval().to(device)


@torch.inference_mode()
def _predicted(logits: Logits, batches: Sequence[Mapping[str, Tensor]]) -> NDArray[np.float32]:
    with quickly(accelerator()):
        found: NDArray[np.float32] = torch.cat([logits(b).float() for b in batches]).cpu().numpy()
    return found


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: values.cpu().numpy() for name, values in tensors.items()}


def _tensors(arrays: Arrays, device: torch.device | None = None) -> dict[str, Tensor]:
    """The same memory as tensors, on a CPU; whoever writes to it may end the process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {name: torch.from_numpy(values).to(device) for name, values in arrays.items()}
