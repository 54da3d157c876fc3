"""A student's first weights, fitted to its teacher in closed form, layer by layer.

A leading slice of a teacher lacks what the other units held, and its layers read states that no
layer before them was trained to write. Here the student keeps the directions in which the teacher's
states vary most, and each of its linears is solved for by least squares: from what the student
itself has computed so far, to what the teacher computes in the same place. So every linear makes up
for the layers that are skipped, the heads that are missing and the errors made before it, as far as
it can, without a gradient.

Solving for one layer at a time on a few texts is known from pruning (He et al. 2017, "Channel
pruning for accelerating very deep neural networks", eq. 5), the rotation to principal directions
from SliceGPT (Ashkboos et al. 2024). That both together start a student of another depth and width
is ours; docs/distillation.md has what it is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertForSequenceClassification, PreTrainedModel

from supernet.architecture import Layer
from supernet.distill.least_squares import least_squares
from supernet.distill.teacher_outputs import Compared
from supernet.distill.trainer import layer_map
from supernet.elastic import head_rows
from supernet.errors import NasError
from supernet.observe import observe
from supernet.student import architecture_of

STRENGTH = 0.1
"""Of the ridge: how near to the teacher's own weights a linear stays."""


@torch.no_grad()
def fit_to_teacher(
    student: PreTrainedModel,
    teacher: BertForSequenceClassification,
    batches: Sequence[Mapping[str, Tensor]],
) -> None:
    """Set a student's weights, in place, so that it computes nearly what its teacher does.

    A student of the teacher's own sizes becomes its copy.

    Args:
        student: of any depth and sizes up to the teacher's.
        teacher: ordered by importance, for a student's heads and neurons learn from the leading
            ones.
        batches: model inputs with their masks, some hundreds of texts in all.

    Raises:
        NasError: the student does not fit in the teacher.
    """
    architecture, largest = architecture_of(student.config), architecture_of(teacher.config)
    if not architecture.fits_in(largest):
        raise NasError(f"student {architecture} does not fit in its teacher's {largest}")
    student.eval()
    teacher.eval()
    own: Any = student.bert
    theirs: Any = teacher.bert
    texts = Texts(batches)
    mapped = layer_map(architecture.num_layers, largest.num_layers)
    needed = sorted({*mapped, *(index - 1 for index in mapped[1:])})
    observed = [Compared(tuple(needed)).of(observe(teacher, batch)) for batch in batches]

    def state(index: int) -> list[Tensor]:
        return [one.hidden_states[needed.index(index)] for one in observed]

    basis = principal_directions(
        [texts.tokens(state(index)) for index in mapped], architecture.hidden_size
    )
    hidden = fit_embeddings(own.embeddings, theirs.embeddings, batches, state(0), basis, texts)
    for index, layer, module in zip(
        mapped[1:], architecture.layers, own.encoder.layer, strict=True
    ):
        fitted = LayerFit(module, theirs.encoder.layer[index - 1], layer, basis, texts)
        hidden = fitted(hidden, state(index - 1))
    first, given = (
        torch.cat([one[:, 0] for one in states]) for states in (hidden, state(mapped[-1]))
    )
    fit_head(student, teacher, first, given, torch.cat([one.logits for one in observed]), basis)


class Texts:
    """Batches of texts, of which padding does not count."""

    def __init__(self, batches: Sequence[Mapping[str, Tensor]]) -> None:
        self.masks = [batch["attention_mask"].bool() for batch in batches]

    def tokens(self, values: Sequence[Tensor]) -> Tensor:
        """The real tokens of (batch, tokens, width) each, (all tokens, width)."""
        return torch.cat([one[mask] for one, mask in zip(values, self.masks, strict=True)])


def principal_directions(states: Sequence[Tensor], width: int) -> Tensor:
    """An orthonormal basis of the directions in which states vary most.

    Args:
        states: of several layers, (tokens, hidden) each; they count alike.

    Returns:
        (hidden, width). Within its span it is turned at random (from a fixed seed), so that its
        directions vary about alike: layer normalization takes their mean away, and weight decay
        and Adam treat them alike. At full width the states' own axes.
    """
    hidden = states[0].shape[-1]
    if width == hidden:
        return torch.eye(hidden).to(states[0])
    spread = [torch.cov(one.double().T) for one in states]
    _, directions = torch.linalg.eigh(sum(one / one.trace() for one in spread))
    turned = torch.randn(width, width, generator=torch.Generator().manual_seed(0)).double()
    turn = torch.linalg.qr(turned).Q.to(directions)
    return (directions[:, -width:] @ turn).to(states[0].dtype)


def fit_embeddings(
    own: Any,
    theirs: Any,
    batches: Sequence[Mapping[str, Tensor]],
    wanted: Sequence[Tensor],
    basis: Tensor,
    texts: Texts,
) -> list[Tensor]:
    """Project the tables and fit their normalization; the student's first states."""
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        getattr(own, name).weight.copy_(getattr(theirs, name).weight @ basis)
    sums = []
    for batch in batches:
        ids = batch["input_ids"]
        segments = batch.get("token_type_ids", torch.zeros_like(ids))
        positions = own.position_embeddings.weight[: ids.shape[1]]
        sums.append(own.word_embeddings(ids) + positions + own.token_type_embeddings(segments))
    fit_norm(own.LayerNorm, texts.tokens(sums), texts.tokens(wanted) @ basis)
    return [own.LayerNorm(one) for one in sums]


class LayerFit:
    """Fits one layer of a student to one of its teacher's.

    Args:
        own, theirs: the layers.
        sizes: the student's.
        basis: (teacher's hidden size, student's)
    """

    def __init__(self, own: Any, theirs: Any, sizes: Layer, basis: Tensor, texts: Texts) -> None:
        self._own = own
        self._theirs = theirs
        self._sizes = sizes
        self._basis = basis
        self._texts = texts

    def __call__(self, hidden: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
        """From the student's states before the layer, and the teacher's, to the student's after.

        All are (batch, tokens, hidden), one for each batch.
        """
        own, theirs = self._own, self._theirs
        attended, after = self._attention(hidden, given)
        inputs, outputs = self._texts.tokens(attended), self._texts.tokens(after)
        neurons = self._sizes.intermediate_size
        dense = theirs.intermediate.dense
        prior = dense.weight[:neurons] @ self._basis
        fit_linear(own.intermediate.dense, inputs, dense(outputs)[:, :neurons], prior)
        prior = self._basis.T @ theirs.output.dense.weight[:, :neurons]
        self._fit_output(
            own.output, (own.intermediate(inputs), inputs),
            theirs.output, (theirs.intermediate(outputs), outputs), prior,
        )  # fmt: skip
        return [own.output(own.intermediate(one), one) for one in attended]

    def _attention(
        self, hidden: Sequence[Tensor], given: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Fit the attention; the student's states after it, and the teacher's."""
        own, theirs, sizes = self._own.attention, self._theirs.attention, self._sizes
        tokens = self._texts.tokens
        heads, head_size = theirs.self.num_attention_heads, theirs.self.attention_head_size
        inputs, outputs = tokens(hidden), tokens(given)
        for name in ("query", "key", "value"):
            full = getattr(theirs.self, name)
            # Scores are divided by the root of the head's size, which may be smaller here.
            scale = (sizes.head_size / head_size) ** 0.5 if name == "query" else 1.0
            targets = head_rows(full(outputs).T, heads, sizes).T
            prior = head_rows(full.weight, heads, sizes) @ self._basis
            fit_linear(getattr(own.self, name), inputs, targets * scale, prior * scale)
        context = self._contexts(own.self, sizes.num_heads, hidden)
        their_context = self._contexts(theirs.self, heads, given)
        prior = self._basis.T @ head_rows(theirs.output.dense.weight.T, heads, sizes).T
        self._fit_output(
            own.output, (tokens(context), inputs),
            theirs.output, (tokens(their_context), outputs), prior,
        )  # fmt: skip
        return (
            [own.output(*pair) for pair in zip(context, hidden, strict=True)],
            [theirs.output(*pair) for pair in zip(their_context, given, strict=True)],
        )

    def _fit_output(
        self,
        own: Any,
        inputs: tuple[Tensor, Tensor],
        theirs: Any,
        their_inputs: tuple[Tensor, Tensor],
        prior: Tensor,
    ) -> None:
        """Fit a linear with its residual and normalization to the teacher's.

        The linear makes the sum of both what the teacher normalizes, whatever the residual lacks.
        """
        inner, residual = inputs
        wanted = (theirs.dense(their_inputs[0]) + their_inputs[1]) @ self._basis
        fit_linear(own.dense, inner, wanted - residual, prior)
        normalized = theirs(*their_inputs) @ self._basis
        fit_norm(own.LayerNorm, own.dense(inner) + residual, normalized)

    def _contexts(self, module: Any, heads: int, hidden: Sequence[Tensor]) -> list[Tensor]:
        """What attention gathers, before its output projection."""
        found = []
        for one, mask in zip(hidden, self._texts.masks, strict=True):
            query, key, value = (
                part(one).unflatten(-1, (heads, -1)).transpose(1, 2)
                for part in (module.query, module.key, module.value)
            )  # (batch, heads, tokens, head_size)
            mask = mask[:, None, None, :]
            gathered = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            found.append(gathered.transpose(1, 2).flatten(-2))  # (batch, tokens, qkv_size)
        return found


def fit_head(
    student: Any, teacher: Any, first: Tensor, given: Tensor, logits: Tensor, basis: Tensor
) -> None:
    """Fit pooler and classifier.

    Args:
        first, given: the first token's last state, (texts, hidden) of student and teacher
        logits: the teacher's, (texts, num_labels)
    """
    own, theirs = student.bert.pooler, teacher.bert.pooler
    width = own.dense.out_features
    fit_linear(
        own.dense, first, theirs.dense(given)[:, :width], theirs.dense.weight[:width] @ basis
    )
    pooled = own.dense(first).tanh()
    fit_linear(student.classifier, pooled, logits, teacher.classifier.weight[:, :width])


def fit_linear(module: nn.Linear, inputs: Tensor, targets: Tensor, prior: Tensor) -> None:
    """Solve for a linear in place, near ``prior`` where the inputs say little."""
    weight, bias = least_squares(inputs, targets, prior, STRENGTH)
    module.weight.copy_(weight)
    module.bias.copy_(bias)


def fit_norm(module: nn.LayerNorm, inputs: Tensor, targets: Tensor) -> None:
    """The gain and offset of a normalization, unit by unit, by least squares in place."""
    normal = F.layer_norm(inputs, inputs.shape[-1:], eps=module.eps)
    mean, goal = normal.mean(0), targets.mean(0)
    centred = normal - mean
    gain = (centred * (targets - goal)).sum(0) / (centred**2).sum(0)
    module.weight.copy_(gain)
    module.bias.copy_(goal - gain * mean)
