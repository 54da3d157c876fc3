"""The teacher as sub-networks and students are held to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.data.tokenization import EncodedExamples
from nas.models.evaluate import collator, predict, quickly
from nas.models.quality import quality
from nas.pipeline.learning import EncodedTask
from nas.pipeline.recipe import Recipe
from nas.terminal.progress import Display
from supernet.architecture import Architecture
from supernet.distill.evidence import MEMORY_LIMIT, Evidence, bytes_kept
from supernet.distill.neurons import explained
from supernet.distill.packed_texts import PackedTexts
from supernet.importance import measure_importance, reorder
from supernet.model import Supernet

Batches = list[dict[str, Tensor]]

JUDGED = 1024
"""Texts on which students are compared with the teacher: those of validation, and where these are
fewer, training texts."""


class Guide:
    """A teacher with its units ordered by importance, and what it computes on its task's texts.

    Its units stand where the trained supernet's and every student's do, so it is what their hidden
    states are compared with; its function is the teacher's. The teacher reads the texts once, when
    a fit first asks for it, and all fits share what it computes. That is kept in memory and not in
    the workspace: to read the texts again takes less time than to check gigabytes of a file.

    Args:
        folder: of the teacher, as stock ``transformers`` saves it.
        recipe: says how many texts importance is measured and students are fitted on.
        seed: of the choice of those texts.
        supernet: the teacher with its units in order, where another process has ordered them.
    """

    def __init__(
        self,
        folder: Path,
        task: EncodedTask,
        recipe: Recipe,
        seed: int,
        display: Display,
        supernet: Supernet | None = None,
    ) -> None:
        self._folder = folder
        self._task = task
        self._recipe = recipe
        self._seed = seed
        self._display = display
        if supernet is not None:
            self.supernet = supernet

    @cached_property
    def supernet(self) -> Supernet:
        """The teacher as a supernet whose leading slices hold its most important units."""
        supernet = Supernet.from_pretrained(self._folder)
        generator = torch.Generator().manual_seed(self._seed)
        batches = self.sample_batches()
        reorder(
            supernet.weights, measure_importance(supernet.weights, batches, generator=generator)
        )
        return supernet

    @cached_property
    def as_it_was(self) -> Supernet:
        """The teacher with its units in its own order."""
        return Supernet.from_pretrained(self._folder)

    @cached_property
    def evidence(self) -> Evidence:
        """What students are fitted by: on ``fit_examples`` texts, or as many as memory holds."""
        if self.readings is None:
            return self._read(np.sort(self._drawn(MEMORY_LIMIT)))
        most = self._recipe.fit_examples
        if most is None or most >= len(self._task.train):
            return self.readings
        order = self.readings.texts.order
        drawn = torch.as_tensor(self._drawn(MEMORY_LIMIT // 3)).to(order)
        return self.readings.part(torch.isin(order, drawn))

    @cached_property
    def readings(self) -> Evidence | None:
        """What the teacher computes on all training texts; None where memory does not hold it."""
        lengths = np.asarray(self._task.train.lengths)
        if bytes_kept(int(lengths.sum()), self.supernet.largest) > MEMORY_LIMIT:
            return None
        return self._read(np.arange(len(lengths)))

    def _drawn(self, memory: int) -> NDArray[np.intp]:
        """The numbers of random training texts that students are fitted on, as memory holds."""
        train, recipe = self._task.train, self._recipe
        drawn = self._drawn_order()[: recipe.fit_examples]
        tokens = np.cumsum(np.asarray(train.lengths)[drawn])
        return drawn[: max(1, int((bytes_kept(tokens, self.supernet.largest) <= memory).sum()))]

    def _read(self, rows: NDArray[np.intp]) -> Evidence:
        texts = PackedTexts.of(batches_of(self._task.train, rows, self._task))
        with self._display.bar("Read the texts with the teacher") as bar:
            return Evidence(self.supernet.weights, texts, progress=bar)

    @cached_property
    def judged(self) -> EncodedExamples:
        """Where the teacher is the judge: validation, then training texts up to :data:`JUDGED`.

        No labels are needed there, and the more texts, the less chance. Those of
        :attr:`sample`, on which candidates are fitted, are left out.
        """
        task, fitted = self._task, self._recipe.importance_examples
        more = max(0, JUDGED - len(task.validation))
        rows = self._drawn_order()[fitted : fitted + more]
        return task.validation.followed_by(task.train.take(rows.tolist()))

    @cached_property
    def judged_logits(self) -> NDArray[np.float32]:
        """The teacher's predictions on :attr:`judged`, (examples, num_labels)."""
        teacher, collate = self.supernet.weights.eval(), collator(self._task.tokenizer)
        with quickly(teacher.device):  # whoever asks first
            return predict(
                lambda batch: teacher(**batch).logits, self.judged, collate, teacher.device
            )

    @property
    def validation_logits(self) -> NDArray[np.float32]:
        """The teacher's predictions on validation, (examples, num_labels)."""
        return self.judged_logits[: len(self._task.validation)]

    @property
    def validation_quality(self) -> float:
        """The teacher's own quality on validation, as students' are told."""
        labels, logits = np.asarray(self._task.validation.labels), self.validation_logits
        return quality(self._task.data.task.metric, logits, logits, labels)

    def worth(self, architecture: Architecture, sizes: Sequence[int]) -> NDArray[np.float64]:
        """What intermediate sizes are worth in each layer of an architecture, (layers, sizes).

        By what they explain (:func:`supernet.distill.neurons.explained`) of what the teacher
        computes on the recipe's ``importance_examples``.
        """
        layers = (replace(one, intermediate_size=sizes[-1]) for one in architecture.layers)
        student = self.supernet.blank(replace(architecture, layers=tuple(layers)))
        return explained(student, self.sample)[:, np.asarray(sizes) - 1]

    @cached_property
    def sample(self) -> Evidence:
        """What the teacher computes on the texts on which its importance is measured."""
        return Evidence(self.supernet.weights, PackedTexts.of(self.sample_batches()))

    def readings_of(self, data: EncodedExamples) -> Evidence | None:
        """What the teacher computes on all of some data, if that is known."""
        return self.readings if data is self._task.train else None

    def sample_batches(self, most: int | None = None) -> Batches:
        """Training texts drawn at random, on which the teacher's activations are studied.

        Args:
            most: of them; no more than the recipe's ``importance_examples`` in any case.
        """
        rows = self._drawn_order()[: self._recipe.importance_examples]
        return batches_of(self._task.train, rows[:most], self._task)

    def _drawn_order(self) -> NDArray[np.intp]:
        """The numbers of all training texts, in the order in which they are drawn."""
        return np.random.default_rng(self._seed).permutation(len(self._task.train))


def batches_of(data: EncodedExamples, rows: NDArray[np.intp], task: EncodedTask) -> Batches:
    """Some of the examples as padded model inputs, without labels."""
    collate = collator(task.tokenizer)
    batches = []
    for start in range(0, len(rows), 32):
        batch = collate([data[int(row)] for row in rows[start : start + 32]])
        batch.pop("labels", None)
        batches.append(batch)
    return batches
