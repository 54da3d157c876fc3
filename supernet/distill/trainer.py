"""DistillTrainer: trains a student of fixed architecture by one stage of distillation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from transformers import BertForSequenceClassification, PreTrainedModel

from supernet.architecture import layer_map
from supernet.distill.evidence import Evidence
from supernet.distill.least_squares import least_squares
from supernet.distill.losses import (
    attention_loss,
    hard_loss,
    hidden_loss,
    relation_loss,
    soft_loss,
)
from supernet.distill.masked_words import Masking, WordHead
from supernet.distill.mixkd import Mixture, distance, mixed_hard_loss
from supernet.distill.stage import DistillStage, Mixup
from supernet.distill.teacher_outputs import (
    MEMORY_LIMIT,
    ROWS,
    Compared,
    Numbered,
    TeacherOutputs,
    bytes_kept,
    numbered,
)
from supernet.distill.theseus import assembled, check_replaceable, drawn
from supernet.observe import Observation, observe, word_embeddings, word_table
from supernet.training import Progress, ResumableTrainer, Watch
from supernet.used_words import used_words


class Projection(nn.Linear):
    """Linear map from the student's width to the teacher's, for all states (TinyBERT, eq. 8).

    It starts as the identity on the leading units.
    """

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__(student_width, teacher_width)
        with torch.no_grad():
            nn.init.eye_(self.weight)
            nn.init.zeros_(self.bias)


class Learner(nn.Module):
    """A student with its projection and its head for masked words, which training needs.

    Both are dropped after training. One learner goes through all stages, so that the projection
    need not be learnt again in each.
    """

    def __init__(self, student: PreTrainedModel, teacher_width: int) -> None:
        super().__init__()
        self.student = student
        self.projection = Projection(student.config.hidden_size, teacher_width)
        self.word_head = WordHead.of(student)

    @torch.no_grad()
    def align(
        self, teacher: BertForSequenceClassification, batches: Iterable[Mapping[str, Tensor]]
    ) -> None:
        """Set the projection so that it maps the student's states to nearly the teacher's.

        It is solved by least squares over the states of all layers, because a student's units need
        not be units of its teacher.

        Args:
            batches: model inputs with their masks, a hundred texts in all.
        """
        pairs = []
        for batch in batches:
            real = batch["attention_mask"].bool()
            own = observe(self.student, batch).hidden_states
            theirs = observe(teacher, batch).hidden_states
            mapped = layer_map(len(own) - 1, len(theirs) - 1)
            pairs += [
                (mine[real], theirs[index][real]) for mine, index in zip(own, mapped, strict=True)
            ]
        found = least_squares(pairs, self.projection.weight, strength=1e-3)
        self.projection.weight.copy_(found.weight)
        self.projection.bias.copy_(found.bias(found.weight))

    def forward(
        self,
        mixture: Mixture | None = None,
        layers: Sequence[nn.Module] | None = None,
        predicted: Tensor | None = None,
        **inputs: Tensor,
    ) -> tuple[Observation, Tensor | None]:
        """Run the student.

        Args:
            mixture: if given, the student reads mixtures of the batch's texts.
            layers: layers to run instead of the student's own.
            predicted: True at the tokens to predict, (batch, tokens).

        Returns:
            What the student computed, its hidden states projected to the teacher's width; and the
            logits of the predicted tokens, (predicted tokens, vocab_size), if there are any.
        """
        observed = observe_mixed(self.student, inputs, mixture, layers)
        states = observed.hidden_states
        words = None
        if predicted is not None:
            words = self.word_head(states[-1][predicted], word_table(self.student).weight)
        # Losses are computed in float32, whatever the precision of the products.
        return (
            Observation(
                observed.logits.float(),
                tuple(self.projection(state).float() for state in states),
                tuple((q.float(), k.float(), v.float()) for q, k, v in observed.attentions),
            ),
            words,
        )


def observe_mixed(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    mixture: Mixture | None,
    layers: Sequence[nn.Module] | None = None,
) -> Observation:
    """Run a model on a batch, or on mixtures of its texts."""
    if mixture is None:
        return observe(model, inputs, layers=layers)
    words = mixture.embeddings(word_embeddings(model, inputs["input_ids"]))
    mask = {"attention_mask": mixture.mask(inputs["attention_mask"])}
    return observe(model, {**inputs, **mask}, words=words, layers=layers)


def compared(stage: DistillStage, depth: int, teacher_depth: int) -> tuple[Compared, Compared]:
    """The outputs that a stage compares: a student's of ``depth`` layers, and its teacher's."""
    mapped = layer_map(depth, teacher_depth)
    states = tuple(range(depth + 1)) if stage.layers == "all" else (depth,)
    layers = tuple(state for state in states if state)
    if not stage.losses.attention:
        layers = (depth,) if stage.losses.relation else ()
    if not stage.losses.hidden:
        states = ()
    return (
        Compared(states, tuple(layer - 1 for layer in layers)),
        Compared(
            tuple(mapped[state] for state in states), tuple(mapped[layer] - 1 for layer in layers)
        ),
    )


def stage_losses(
    stage: DistillStage,
    student: Observation,
    teacher: Observation | None,
    mask: Tensor,
    labels: Tensor | None,
) -> dict[str, Tensor]:
    """The losses that have a weight in ``stage``, by name, on unmixed texts.

    Args:
        student: the compared outputs, with states projected to the teacher's width.
        teacher: the compared outputs; None if no loss compares with the teacher.
        mask: (batch, tokens)
        labels: (batch,)
    """
    found: dict[str, Tensor] = {}
    weights = stage.losses
    if weights.hard and labels is not None:
        found["hard"] = hard_loss(student.logits, labels)
    if teacher is None:
        return found
    if weights.soft:
        found["soft"] = soft_loss(student.logits, teacher.logits, stage.temperature)
    if weights.hidden:
        pairs = zip(student.hidden_states, teacher.hidden_states, strict=True)
        found["hidden"] = _mean(hidden_loss(mine, theirs, mask) for mine, theirs in pairs)
    if weights.attention:
        layers = zip(student.attentions, teacher.attentions, strict=True)
        found["attention"] = _mean(
            attention_loss(mine[:2], theirs[:2], mask) for mine, theirs in layers
        )
    if weights.relation:
        parts = zip(student.attentions[-1], teacher.attentions[-1], strict=True)
        found["relation"] = _mean(relation_loss(mine, theirs, mask) for mine, theirs in parts)
    return found


def mixup_losses(
    mixup: Mixup,
    temperature: float,
    mixture: Mixture,
    student: Observation,
    teacher: Observation | None,
    labels: Tensor | None,
) -> Tensor:
    """MixKD's two losses on mixtures, weighted and summed."""
    loss = student.logits.new_zeros(())
    if mixup.student_weight and labels is not None:
        loss = loss + mixup.student_weight * mixed_hard_loss(student.logits, labels, mixture)
    if teacher is not None:
        apart = distance(student.logits, teacher.logits, mixup, temperature)
        loss = loss + mixup.teacher_weight * apart
    return loss


class DistillTrainer(ResumableTrainer):
    """Trains a learner's student in place, by one stage.

    Args:
        teacher: a frozen classifier with its units in the order of the student's.
        masking: for stages that predict masked words.
        evidence: what the teacher computes on all of ``data``, packed in the order of ``data``. If
            given, the teacher need not read the texts again.
        reading: progress of the teacher if it reads the texts before the training.
        data, collate, folder, seed, watch, progress: as in :class:`ResumableTrainer`.

    Raises:
        NasError: a replacement by layers that do not fit.
    """

    def __init__(
        self,
        learner: Learner,
        teacher: BertForSequenceClassification,
        data: Dataset[Any],
        collate: Callable[[list[Any]], dict[str, Tensor]],
        stage: DistillStage,
        folder: Path,
        *,
        seed: int,
        masking: Masking | None = None,
        evidence: Evidence | None = None,
        watch: Watch | None = None,
        progress: Progress | None = None,
        reading: Progress | None = None,
    ) -> None:
        if stage.replacement is not None:
            check_replaceable(teacher, learner.student)
        for name, parameter in learner.student.named_parameters():
            parameter.requires_grad_(stage.trained == "all" or ".encoder.layer." in name)
        rate = stage.learning_rate(learner.student.config.hidden_size)
        super().__init__(
            learner,
            Numbered(data),
            numbered(collate),
            replace(stage.training, learning_rate=rate),
            folder,
            seed=seed,
            watch=watch,
            progress=progress,
        )
        self.learner = learner
        self._data: Any = data
        self.teacher = teacher.eval().requires_grad_(False).to(self.args.device)
        self.stage = stage
        self.masking = masking
        self.own, self.theirs = compared(
            stage, learner.student.config.num_hidden_layers, teacher.config.num_hidden_layers
        )
        self.reading = reading
        self.evidence = evidence
        self.outputs: TeacherOutputs | None = None
        self._read = partial(TeacherOutputs.read, self.teacher, data, collate, self.theirs)

    def run(self) -> None:
        if self.evidence is not None and not self.theirs.attentions:
            assert len(self.evidence.texts) == len(self.sampler.lengths), "evidence on all data"
            self.outputs = TeacherOutputs.of_evidence(self.evidence, self.theirs.states)
        elif self._is_worth_keeping():
            self.outputs = self._read(self.reading or (lambda _done, _total: None))
        with self._words():
            super().run()
        self.learner.student.requires_grad_(True)

    def _words(self) -> AbstractContextManager[None]:
        """Those of the texts alone are trained, unless any word may be predicted."""
        if self.stage.losses.mlm:
            return nullcontext()
        data = self._data
        return used_words(self.learner, (data[row]["input_ids"] for row in range(len(data))))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        stage, rng = self.stage, self.step_rng()
        labels, rows = inputs.pop("labels", None), inputs.pop(ROWS)
        total = torch.zeros((), device=inputs["input_ids"].device)
        layers = self._layers(rng)
        if stage.losses.compared or stage.losses.hard:
            teacher = self._targets(rows, inputs) if stage.losses.compared else None
            student, _ = model(layers=layers, **inputs)
            mask = inputs["attention_mask"]
            found = stage_losses(stage, self.own.of(student), teacher, mask, labels)
            for name, loss in found.items():
                total = total + getattr(stage.losses, name) * loss
        if stage.losses.mlm:
            assert self.masking is not None, "a stage that predicts masked words masks some"
            hidden, predicted = self.masking.apply(inputs["input_ids"], rng)
            _, words = model(predicted=predicted, **(inputs | {"input_ids": hidden}))
            if len(words):
                loss = cross_entropy(words, inputs["input_ids"][predicted])
                total = total + stage.losses.mlm * loss
        if stage.mixup is not None:
            mixture = Mixture.draw(len(inputs["input_ids"]), stage.mixup.alpha, rng)
            mixture = mixture.to(inputs["input_ids"].device)
            teacher = self._teacher(mixture, inputs) if stage.mixup.teacher_weight else None
            student, _ = model(mixture, layers, **inputs)
            total = total + mixup_losses(
                stage.mixup, stage.temperature, mixture, student, teacher, labels
            )
        if not total.requires_grad:  # none of the student's layers ran in this step
            total = total + 0.0 * sum(p.sum() for p in model.parameters() if p.requires_grad)
        return total

    @torch.no_grad()
    def _teacher(self, mixture: Mixture | None, inputs: dict[str, Tensor]) -> Observation:
        with self.accelerator.autocast():
            return observe_mixed(self.teacher, inputs, mixture)

    def _targets(self, rows: Tensor, inputs: dict[str, Tensor]) -> Observation:
        """The teacher's compared outputs: held from before, or computed now."""
        if self.outputs is None:
            return self.theirs.of(self._teacher(None, inputs))
        ids = inputs["input_ids"]
        return self.outputs(rows, ids.shape[1], ids.device)

    def _is_worth_keeping(self) -> bool:
        lengths = self.sampler.lengths
        passes = len(self.sampler) / len(lengths)
        size = bytes_kept(int(lengths.sum()), self.teacher.config.hidden_size, self.theirs)
        return self.stage.losses.compared and passes > 1 and size <= MEMORY_LIMIT

    def _layers(self, rng: np.random.Generator) -> list[nn.Module] | None:
        if self.stage.replacement is None:
            return None
        own: Any = self.learner.student.bert
        theirs: Any = self.teacher.bert
        replaced = drawn(
            len(own.encoder.layer), self.stage.replacement.at(self.state.global_step), rng
        )
        return assembled(theirs.encoder.layer, own.encoder.layer, replaced)


def _mean(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).mean()
