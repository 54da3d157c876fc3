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

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from supernet.architecture import Layer
from supernet.compress.fitted_factors import nearest_by_outputs, nearest_table
from supernet.compress.kronecker import factors_of
from supernet.distill.least_squares import Pairs, least_squares
from supernet.distill.teacher_outputs import Compared
from supernet.distill.trainer import layer_map
from supernet.elastic import head_rows
from supernet.errors import NasError
from supernet.kronecker_layers import KroneckerEmbedding, KroneckerLinear
from supernet.observe import observe
from supernet.student import architecture_of
from supernet.training import Progress

STRENGTH = 0.1
"""Of the ridge: how near to the teacher's own weights a linear stays."""

Examples = Iterable[tuple[Tensor, Tensor, Tensor, Tensor]]
"""Batches of what a block's output linear reads and of its residual, the student's and then the
teacher's, each (tokens, width)."""


@torch.no_grad()
def fit_to_teacher(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    batches: Sequence[Mapping[str, Tensor]],
    progress: Progress | None = None,
) -> None:
    """Set a student's weights, in place, so that it computes nearly what its teacher does.

    A student of the teacher's own sizes becomes its copy; one with factored matrices
    (:mod:`supernet.compress.kronecker`) comes as near as they allow.

    Args:
        student: of any depth and sizes up to the teacher's.
        teacher: ordered by importance where the student is smaller, for its heads and neurons
            learn from the leading ones.
        batches: model inputs with their masks, some hundreds of texts in all.
        progress: called with the layers that are fitted, and all there are.

    Raises:
        NasError: the student does not fit in the teacher, or there are no texts.
    """
    architecture, largest = architecture_of(student.config), architecture_of(teacher.config)
    if not architecture.fits_in(largest):
        raise NasError(f"student {architecture} does not fit in its teacher's {largest}")
    if not batches:
        raise NasError("weights are fitted on texts, and there are none")
    student.eval()
    teacher.eval()
    own: Any = student.bert
    theirs: Any = teacher.bert
    masks = [batch["attention_mask"].bool() for batch in batches]
    mapped = layer_map(architecture.num_layers, largest.num_layers)
    needed = sorted({*mapped, *(index - 1 for index in mapped[1:])})
    observed = [Compared(tuple(needed)).of(observe(teacher, batch)) for batch in batches]

    def state(index: int) -> list[Tensor]:
        return [one.hidden_states[needed.index(index)] for one in observed]

    def real(states: Sequence[Tensor]) -> Iterator[Tensor]:
        return (one[mask] for one, mask in zip(states, masks, strict=True))

    basis = principal_directions(
        [real(state(index)) for index in mapped], largest.hidden_size, architecture.hidden_size
    ).to(own.pooler.dense.weight)
    hidden = fit_embeddings(own.embeddings, theirs.embeddings, batches, state(0), basis)
    for done, (index, layer) in enumerate(zip(mapped[1:], architecture.layers, strict=True)):
        if progress is not None:
            progress(done, architecture.num_layers)
        fitted = LayerFit(
            own.encoder.layer[done],
            theirs.encoder.layer[index - 1],
            layer,
            largest.layers[index - 1],
            basis,
            masks,
        )
        hidden = fitted(hidden, state(index - 1))
    fit_head(
        student,
        teacher,
        torch.cat([one[:, 0] for one in hidden]),
        torch.cat([one[:, 0] for one in state(mapped[-1])]),
        torch.cat([one.logits for one in observed]),
        basis,
    )


def principal_directions(states: Iterable[Iterable[Tensor]], hidden: int, width: int) -> Tensor:
    """An orthonormal basis of the directions in which states vary most.

    Args:
        states: of several layers, each in batches of (tokens, hidden); the layers count alike.

    Returns:
        (hidden, width), float64. Within its span it is turned at random (from a fixed seed), so
        that its directions vary about alike: layer normalization takes their mean away, and weight
        decay and Adam treat them alike. At full width the states' own axes.
    """
    if width == hidden:
        return torch.eye(hidden).double()
    spread = torch.zeros(hidden, hidden).double()
    for layer in states:
        one = covariance(layer, hidden).to(spread)
        spread += one / one.trace().clamp(min=1e-30)
    _, directions = torch.linalg.eigh(spread)
    turned = torch.randn(width, width, generator=torch.Generator().manual_seed(0)).double()
    return directions[:, -width:] @ torch.linalg.qr(turned).Q


def covariance(batches: Iterable[Tensor], width: int) -> Tensor:
    """Of all rows of batches of (rows, width), up to a factor; (width, width) in float64."""
    squares, total, count = torch.zeros(width, width).double(), torch.zeros(width).double(), 0
    for one in batches:
        x = one.double()
        squares, total = squares.to(x) + x.T @ x, total.to(x) + x.sum(0)
        count += len(x)
    return squares - torch.outer(total, total) / count


def fit_embeddings(
    own: Any,
    theirs: Any,
    batches: Sequence[Mapping[str, Tensor]],
    wanted: Sequence[Tensor],
    basis: Tensor,
) -> list[Tensor]:
    """Project the tables and fit their normalization; the student's first states."""
    fit_table(own.word_embeddings, theirs.word_embeddings.weight @ basis, batches)
    for name in ("position_embeddings", "token_type_embeddings"):
        getattr(own, name).weight.copy_(getattr(theirs, name).weight @ basis)
    sums, pairs = [], []
    for batch, goal in zip(batches, wanted, strict=True):
        ids, mask = batch["input_ids"], batch["attention_mask"].bool()
        segments = batch.get("token_type_ids", torch.zeros_like(ids))
        positions = own.position_embeddings.weight[: ids.shape[1]]
        one = own.word_embeddings(ids) + positions + own.token_type_embeddings(segments)
        sums.append(one)
        pairs.append((one[mask], goal[mask] @ basis))
    fit_norm(own.LayerNorm, pairs)
    return [own.LayerNorm(one) for one in sums]


def fit_table(
    module: nn.Embedding | KroneckerEmbedding,
    table: Tensor,
    batches: Sequence[Mapping[str, Tensor]],
) -> None:
    """Copy a table of words in place, or the factors nearest to it.

    A word counts by how often the texts have it, and once more as one of all words, for other texts
    have others.
    """
    if isinstance(module, nn.Embedding):
        module.weight.copy_(table)
        return
    words = torch.cat([batch["input_ids"][batch["attention_mask"].bool()] for batch in batches])
    shares = torch.bincount(words, minlength=len(table)) / len(words) + 1 / len(table)
    left, right = nearest_table(table, shares, factors_of(module))
    module.left.copy_(left)
    module.right.copy_(right)


class LayerFit:
    """Fits one layer of a student to one of its teacher's.

    Args:
        own, theirs: the layers.
        sizes, full: the student's and the teacher's.
        basis: (teacher's hidden size, student's)
        masks: (batch, tokens) each, True at real tokens.
    """

    def __init__(
        self,
        own: Any,
        theirs: Any,
        sizes: Layer,
        full: Layer,
        basis: Tensor,
        masks: Sequence[Tensor],
    ) -> None:
        self._own = own
        self._theirs = theirs
        self._sizes = sizes
        self._full = full
        self._basis = basis
        self._masks = masks

    def __call__(self, hidden: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
        """From the student's states before the layer, and the teacher's, to the student's after.

        All are (batch, tokens, hidden), one for each batch.
        """
        own, theirs = self._own, self._theirs
        attended, after = self._attention(hidden, given)
        neurons, dense = self._sizes.intermediate_size, theirs.intermediate.dense
        fit_linear(
            own.intermediate.dense,
            ((x, dense(y)[:, :neurons]) for x, y in self._real(attended, after)),
            dense.weight[:neurons] @ self._basis,
        )
        self._fit_output(
            own.output,
            theirs.output,
            lambda: (
                (own.intermediate(x), x, theirs.intermediate(y), y)
                for x, y in self._real(attended, after)
            ),
            self._basis.T @ theirs.output.dense.weight[:, :neurons],
        )
        return [own.output(own.intermediate(one), one) for one in attended]

    def _attention(
        self, hidden: Sequence[Tensor], given: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Fit the attention; the student's states after it, and the teacher's."""
        own, theirs, sizes = self._own.attention, self._theirs.attention, self._sizes
        heads, head_size = self._full.num_heads, self._full.head_size
        for name in ("query", "key", "value"):
            linear = getattr(theirs.self, name)
            # Scores are divided by the root of the head's size, which may be smaller here.
            scale = (sizes.head_size / head_size) ** 0.5 if name == "query" else 1.0
            pairs = (
                (x, scale * head_rows(linear(y).T, heads, sizes).T)
                for x, y in self._real(hidden, given)
            )
            prior = scale * head_rows(linear.weight, heads, sizes) @ self._basis
            fit_linear(getattr(own.self, name), pairs, prior)
        context = self._contexts(own.self, sizes.num_heads, hidden)
        their_context = self._contexts(theirs.self, heads, given)
        self._fit_output(
            own.output,
            theirs.output,
            lambda: self._real(context, hidden, their_context, given),
            self._basis.T @ head_rows(theirs.output.dense.weight.T, heads, sizes).T,
        )
        return (
            [own.output(*pair) for pair in zip(context, hidden, strict=True)],
            [theirs.output(*pair) for pair in zip(their_context, given, strict=True)],
        )

    def _fit_output(
        self, own: Any, theirs: Any, examples: Callable[[], Examples], prior: Tensor
    ) -> None:
        """Fit a linear with its residual and normalization to the teacher's.

        The linear makes the sum of both what the teacher normalizes, whatever the residual lacks.
        """
        basis = self._basis
        fit_linear(
            own.dense,
            ((x, (theirs.dense(y) + given) @ basis - kept) for x, kept, y, given in examples()),
            prior,
        )
        fit_norm(
            own.LayerNorm,
            ((own.dense(x) + kept, theirs(y, given) @ basis) for x, kept, y, given in examples()),
        )

    def _real(self, *states: Sequence[Tensor]) -> Iterator[Any]:
        """The real tokens of several states, batch by batch, (tokens, width) each."""
        for mask, *ones in zip(self._masks, *states, strict=True):
            yield tuple(one[mask] for one in ones)

    def _contexts(self, module: Any, heads: int, hidden: Sequence[Tensor]) -> list[Tensor]:
        """What attention gathers, before its output projection."""
        found = []
        for one, mask in zip(hidden, self._masks, strict=True):
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
    own, theirs = student.bert.pooler.dense, teacher.bert.pooler.dense
    width = own.out_features
    fit_linear(own, [(first, theirs(given)[:, :width])], theirs.weight[:width] @ basis)
    pooled = own(first).tanh()
    fit_linear(student.classifier, [(pooled, logits)], teacher.classifier.weight[:, :width])


def fit_linear(module: nn.Linear | KroneckerLinear, pairs: Pairs, prior: Tensor) -> None:
    """Solve for a linear in place, near ``prior`` where the inputs say little.

    A factored one takes the factors whose outputs are nearest to those of the best weight.
    """
    found = least_squares(pairs, prior, STRENGTH)
    if isinstance(module, KroneckerLinear):
        left, right = nearest_by_outputs(found.weight, found.moments, factors_of(module))
        module.left.copy_(left)
        module.right.copy_(right)
    else:
        module.weight.copy_(found.weight)
    module.bias.copy_(found.bias(module.weight))


def fit_norm(module: nn.LayerNorm, pairs: Pairs) -> None:
    """The gain and offset of a normalization, unit by unit, by least squares in place.

    A unit that is constant has a gain of one.
    """
    count = 0
    sums = torch.zeros(4, *module.weight.shape).to(module.weight).double()
    for inputs, targets in pairs:
        x = F.layer_norm(inputs, inputs.shape[-1:], eps=module.eps).double()
        y = targets.double()
        sums += torch.stack([x.sum(0), y.sum(0), (x * x).sum(0), (x * y).sum(0)])
        count += len(x)
    mean_x, mean_y, square, product = sums / count
    variance = square - mean_x**2
    varies = variance > 1e-9
    gain = torch.where(varies, (product - mean_x * mean_y) / variance.clamp(min=1e-9), 1.0)
    module.weight.copy_(gain)
    module.bias.copy_(mean_y - gain * mean_x)
