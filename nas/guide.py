"""The teacher as sub-networks and students are held to it."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.evaluate import collator, predict
from nas.learning import EncodedTask
from nas.request import Study
from nas.result_folder import MODEL
from nas.tokenization import EncodedExamples
from nas.workspace import Artifact
from supernet.distill.evidence import MEMORY_LIMIT, Evidence, bytes_kept
from supernet.distill.packed_texts import PackedTexts
from supernet.importance import measure_importance, reorder
from supernet.model import Supernet

Batches = list[dict[str, Tensor]]


class Guide:
    """A teacher with its units ordered by importance, and what it computes on its task's texts.

    Its units stand where the trained supernet's and every student's do, so it is what their hidden
    states are compared with; its function is the teacher's. The teacher reads the texts once, when
    a fit first asks for it, and all fits share what it computes. That is kept in memory and not in
    the workspace: to read the texts again takes less time than to check gigabytes of a file.
    """

    def __init__(self, run: Study, teacher: Artifact, task: EncodedTask) -> None:
        self._run = run
        self._task = task
        self._folder = teacher.path / MODEL

    @cached_property
    def supernet(self) -> Supernet:
        """The teacher as a supernet whose leading slices hold its most important units."""
        supernet = Supernet.from_pretrained(self._folder)
        generator = torch.Generator().manual_seed(self._run.request.seed)
        batches = sample_batches(self._run, self._task)
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
        """What the teacher computes on the training texts, in their order.

        Of more texts than fit in memory, or than the recipe's ``fit_examples``, a random part.
        """
        train = self._task.train
        drawn = np.random.default_rng(self._run.request.seed).permutation(len(train))
        most = self._run.request.recipe.fit_examples
        if most is None:
            tokens = np.cumsum(np.asarray(train.lengths)[drawn])
            most = max(1, int((bytes_kept(tokens, self.supernet.largest) <= MEMORY_LIMIT).sum()))
        texts = PackedTexts.of(batches_of(train, np.sort(drawn[:most]), self._task))
        with self._run.display.stage("Read the texts with the teacher") as bar:
            return Evidence(self.supernet.weights, texts, progress=bar)

    @cached_property
    def validation_logits(self) -> NDArray[np.float32]:
        """The teacher's predictions on validation, (examples, num_labels)."""
        teacher, collate = self.supernet.weights.eval(), collator(self._task.tokenizer)
        return predict(
            lambda batch: teacher(**batch).logits, self._task.validation, collate, teacher.device
        )

    def evidence_on(self, data: EncodedExamples) -> Evidence | None:
        """The evidence, if it is on all of some data."""
        whole = data is self._task.train and len(self.evidence.texts) == len(data)
        return self.evidence if whole else None


def sample_batches(run: Study, task: EncodedTask, most: int | None = None) -> Batches:
    """Training texts drawn at random, on which the teacher's activations are studied.

    Args:
        most: of them; no more than the recipe's ``importance_examples`` in any case.
    """
    rows = np.random.default_rng(run.request.seed).permutation(len(task.train))
    return batches_of(task.train, rows[: run.request.recipe.importance_examples][:most], task)


def batches_of(data: EncodedExamples, rows: NDArray[np.intp], task: EncodedTask) -> Batches:
    """Some of the examples as padded model inputs, without labels."""
    collate = collator(task.tokenizer)
    batches = []
    for start in range(0, len(rows), 32):
        batch = collate([data[int(row)] for row in rows[start : start + 32]])
        batch.pop("labels", None)
        batches.append(batch)
    return batches
