"""A student's first weights, fitted to its teacher in closed form, layer by layer.

A leading slice of a teacher has two faults: it lacks what the other units held, and its layers read
states that no layer before them was trained to write. A fitted student instead keeps the directions
in which the teacher's states vary most. Each of its linear layers is solved for by least squares,
from what the student has computed so far to what the teacher computes in the same place. So every
linear layer compensates for skipped layers, missing heads and earlier errors as far as it can,
without gradients.

Solving for one layer at a time on a few texts is known from pruning (He et al. 2017, "Channel
pruning for accelerating very deep neural networks", eq. 5), and the rotation to principal
directions from SliceGPT (Ashkboos et al. 2024). Combining both to start a student of another depth
and width is new here; docs/distillation.md shows what it gains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from supernet.architecture import Layer, layer_map
from supernet.compress.fitted_factors import nearest_by_outputs, nearest_table
from supernet.compress.kronecker import factors_of
from supernet.distill.evidence import Evidence, blocks
from supernet.distill.least_squares import Pairs, Solution, least_squares, moments, solved
from supernet.distill.narrow_heads import HeadMaps, head_maps
from supernet.distill.packed_texts import PackedTexts
from supernet.errors import NasError
from supernet.kronecker_layers import KroneckerEmbedding, KroneckerLinear
from supernet.student import architecture_of
from supernet.training import Progress

STRENGTH = 0.1
"""Strength of the ridge, which keeps a linear layer near the teacher's own weights."""


def fit_to_teacher(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    batches: Sequence[Mapping[str, Tensor]],
    progress: Progress | None = None,
) -> None:
    """:func:`fit` to what a teacher computes on some texts, which no other fit shares.

    Args:
        batches: model inputs with their masks, some hundreds of texts in all.

    Raises:
        NasError: the student does not fit in the teacher, or there are no texts.
    """
    _check_sizes(student, teacher)
    fit(student, Evidence(teacher, PackedTexts.of(batches)), progress)


Sums = tuple[Tensor, Tensor]
"""Sums from which a linear layer is solved, in float64, all about their means: of squares of its
inputs, (inputs, inputs), and of inputs times wanted outputs, (inputs, outputs)."""


@torch.no_grad()
def fit(
    student: PreTrainedModel, evidence: Evidence, progress: Progress | None = None
) -> list[Sums]:
    """Set a student's weights, in place, so that it computes nearly what its teacher does.

    A student of the teacher's own sizes becomes a copy. One with factored matrices
    (:mod:`supernet.compress.kronecker`) comes as near as its factors allow.

    Args:
        student: of any depth and sizes up to the teacher's.
        evidence: of the teacher. Its units must be ordered by importance if the student is smaller,
            because the student's heads and neurons learn from the leading ones.
        progress: called with the number of layers fitted, and the number of all layers.

    Returns:
        For each layer, the sums from which the output of its feed-forward network was solved.

    Raises:
        NasError: the student does not fit in the teacher.
    """
    _check_sizes(student, evidence.teacher)
    architecture, largest = architecture_of(student.config), evidence.architecture
    student.eval()
    own: Any = student.bert
    theirs: Any = evidence.teacher.bert
    mapped = layer_map(architecture.num_layers, largest.num_layers)
    spreads = [evidence.spread(number) for number in mapped]
    basis = principal_directions(spreads, architecture.hidden_size).to(own.pooler.dense.weight)
    hidden = fit_embeddings(own.embeddings, theirs.embeddings, evidence, basis)
    neurons: list[Sums] = []
    for done, (number, sizes) in enumerate(zip(mapped[1:], architecture.layers, strict=True)):
        if progress is not None:
            progress(done, architecture.num_layers)
        fit_layer = LayerFit(own.encoder.layer[done], sizes, evidence, number - 1, basis)
        hidden, solved_from = fit_layer(hidden)
        neurons.append(solved_from)
    fit_head(student, evidence, hidden[evidence.texts.starts], basis)
    return neurons


@torch.no_grad()
def repair(student: PreTrainedModel, evidence: Evidence) -> None:
    """Correct a sub-network of a trained supernet in closed form, in place.

    The sub-network's states correspond to the teacher's leading units. Each linear layer and each
    normalization is solved for as in :func:`fit`, but stays near its present weights. Once-for-all
    (Cai et al., ICLR 2020) recomputes batch normalization statistics for the same purpose.

    Args:
        student: a sub-network with whole matrices. Its table of words stays as it is.
        evidence: of the teacher, with its units in the order of the supernet's.

    Raises:
        NasError: the student does not fit in the teacher.
    """
    _check_sizes(student, evidence.teacher)
    hidden_size = student.config.hidden_size
    own: Any = student.eval().bert
    mapped = layer_map(len(own.encoder.layer), evidence.architecture.num_layers)
    basis = torch.eye(evidence.architecture.hidden_size).to(own.pooler.dense.weight)
    basis = basis[:, :hidden_size]
    hidden = own.embeddings.LayerNorm(_embedded(own.embeddings, evidence.texts))
    layers = zip(own.encoder.layer, architecture_of(student.config).layers, mapped[1:], strict=True)
    for layer, sizes, number in layers:
        hidden, _ = LayerFit(layer, sizes, evidence, number - 1, basis, from_own=True)(hidden)
    fit_head(student, evidence, hidden[evidence.texts.starts], basis, from_own=True)


def _check_sizes(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    architecture, largest = architecture_of(student.config), architecture_of(teacher.config)
    if not architecture.fits_in(largest):
        raise NasError(f"student {architecture} does not fit in its teacher's {largest}")


def principal_directions(spreads: Iterable[Tensor], width: int) -> Tensor:
    """An orthonormal basis of the directions in which states vary most.

    Args:
        spreads: covariances of several layers' states up to a factor, (hidden, hidden), float64.
            All layers have equal weight.

    Returns:
        (hidden, width), float64. At full width these are the states' own axes. Otherwise the basis
        is rotated at random within its span, from a fixed seed, so that all its directions vary by
        about as much: layer normalization subtracts their mean, and weight decay and Adam treat
        them equally.
    """
    mean = torch.stack([one / one.trace().clamp(min=1e-30) for one in spreads]).mean(0)
    if width == len(mean):
        return torch.eye(width).to(mean)
    _, directions = torch.linalg.eigh(mean)
    turned = torch.randn(width, width, generator=torch.Generator().manual_seed(0)).to(mean)
    return directions[:, -width:] @ torch.linalg.qr(turned).Q


def fit_embeddings(own: Any, theirs: Any, evidence: Evidence, basis: Tensor) -> Tensor:
    """Project the tables and fit their normalization.

    Returns:
        The student's first states, (tokens, its hidden size).
    """
    texts = evidence.texts
    fit_table(own.word_embeddings, theirs.word_embeddings.weight @ basis, texts.input_ids)
    for name in ("position_embeddings", "token_type_embeddings"):
        getattr(own, name).weight.copy_(getattr(theirs, name).weight @ basis)
    summed = _embedded(own, texts)
    pairs = ((one, goal @ basis) for one, goal in blocks(summed, evidence.state(0)))
    fit_norm(own.LayerNorm, pairs)
    found: Tensor = own.LayerNorm(summed)
    return found


def _embedded(own: Any, texts: PackedTexts) -> Tensor:
    """Sums of word, position and segment embeddings before normalization, (tokens, hidden)."""
    summed: Tensor = own.word_embeddings(texts.input_ids)
    summed += own.position_embeddings.weight[texts.positions]
    summed += own.token_type_embeddings(texts.token_type_ids)
    return summed


def fit_table(module: nn.Embedding | KroneckerEmbedding, table: Tensor, words: Tensor) -> None:
    """Copy a table of words, or the factors nearest to it, in place.

    For the factors, a word's weight is its share of the texts' tokens plus the same share for every
    word of the vocabulary, because other texts have other words.

    Args:
        words: the texts' tokens, (tokens,)
    """
    if isinstance(module, nn.Embedding):
        module.weight.copy_(table)
        return
    shares = torch.bincount(words, minlength=len(table)) / len(words) + 1 / len(table)
    left, right = nearest_table(table, shares, factors_of(module))
    module.left.copy_(left)
    module.right.copy_(right)


class LayerFit:
    """Fits one layer of a student to one of its teacher's.

    Args:
        own, sizes: the student's layer.
        evidence: what the teacher computes.
        index: index of the teacher's layer.
        basis: (teacher's hidden size, student's hidden size)
        from_own: whether linear layers stay near their present weights, not near the teacher's.
    """

    def __init__(
        self,
        own: Any,
        sizes: Layer,
        evidence: Evidence,
        index: int,
        basis: Tensor,
        *,
        from_own: bool = False,
    ) -> None:
        self._own = own
        self._theirs = evidence.teacher.bert.encoder.layer[index]
        self._sizes = sizes
        self._full = evidence.architecture.layers[index]
        self._basis = basis
        self._from_own = from_own
        self._texts = evidence.texts
        self._given = evidence.state(index)
        self._spread = evidence.spread(index)
        self._sums = evidence.layer(index)

    def __call__(self, hidden: Tensor) -> tuple[Tensor, Sums]:
        """Fit the layer.

        Args:
            hidden: the student's states before the layer, (tokens, hidden).

        Returns:
            Its states after the layer, and the sums that the output of the feed-forward network
            was solved from.
        """
        own, neurons = self._own, self._sizes.intermediate_size
        attended = self._attention(hidden)
        normalize = self._theirs.attention.output.LayerNorm
        dense = self._theirs.intermediate.dense
        sums = moments((x, normalize(y)) for x, y in blocks(attended, self._sums.attention_sum))
        weight, bias = dense.weight[:neurons].double(), dense.bias[:neurons].double()
        fit_by(
            own.intermediate.dense,
            sums.squares,
            sums.crosses[0] @ weight.T,
            sums.means[0],
            weight @ sums.means[1] + bias,
            self._prior(own.intermediate.dense, dense.weight[:neurons] @ self._basis),
        )
        solved_from = self._fit_output(
            own.output,
            self._theirs.output,
            lambda: (
                (own.intermediate(x), x, total)
                for x, total in blocks(attended, self._sums.output_sum)
            ),
            self._basis.T @ self._theirs.output.dense.weight[:, :neurons],
        )
        after = torch.cat([own.output(own.intermediate(x), x) for (x,) in blocks(attended)])
        return after, solved_from

    def _attention(self, hidden: Tensor) -> Tensor:
        """Fit the attention; the student's states after it."""
        own, theirs, sizes = self._own.attention, self._theirs.attention, self._sizes
        sums = moments(blocks(hidden, self._given))
        maps = self._head_maps(sums.means[1])
        for name in ("query", "key", "value"):
            linear, rows = getattr(theirs.self, name), getattr(maps, name)
            # Scores are divided by the root of the head size, which may be smaller here.
            scale = (sizes.head_size / self._full.head_size) ** 0.5 if name == "query" else 1.0
            weight = scale * _mapped(linear.weight, rows, self._full.num_heads)
            bias = scale * _mapped(linear.bias[:, None], rows, self._full.num_heads)[:, 0]
            fit_by(
                getattr(own.self, name),
                sums.squares,
                sums.crosses[0] @ weight.T,
                sums.means[0],
                weight @ sums.means[1] + bias,
                self._prior(getattr(own.self, name), weight @ self._basis.double()),
            )
        context = self._texts.attend(
            own.self.query(hidden), own.self.key(hidden), own.self.value(hidden), sizes.num_heads
        )
        self._fit_output(
            own.output,
            theirs.output,
            lambda: blocks(context, hidden, self._sums.attention_sum),
            self._basis.T.double()
            @ _mapped(theirs.output.dense.weight.T, maps.output.mT, self._full.num_heads).T,
        )
        return torch.cat([own.output(*pair) for pair in blocks(context, hidden)])

    def _head_maps(self, mean: Tensor) -> HeadMaps:
        """Linear maps from the teacher's heads to the student's, which may be narrower.

        Args:
            mean: mean of the teacher's state before the layer, (hidden,)
        """
        full, sizes = self._full, self._sizes
        if self._from_own or sizes.head_size == full.head_size:
            eye = torch.eye(sizes.head_size, full.head_size).to(mean)
            eyes = eye.expand(sizes.num_heads, -1, -1)
            return HeadMaps(eyes, eyes, eyes, eyes.mT)
        covariance = self._spread / self._texts.tokens
        return head_maps(self._theirs.attention, full.num_heads, sizes, covariance, mean)

    def _fit_output(
        self,
        own: Any,
        theirs: Any,
        examples: Callable[[], Iterable[tuple[Tensor, Tensor, Tensor]]],
        prior: Tensor,
    ) -> Sums:
        """Fit a linear layer and the normalization after its residual to the teacher's.

        The linear layer is solved so that its output plus the student's residual gives the sum that
        the teacher normalizes.

        Args:
            examples: gives blocks of the linear layer's inputs, of the residual, and of the
                teacher's sum.
        """
        basis = self._basis.double()
        sums = moments(examples())
        mean, mean_kept, mean_sum = sums.means
        cross = sums.crosses[1] @ basis - sums.crosses[0]
        fit_by(
            own.dense,
            sums.squares,
            cross,
            mean,
            mean_sum @ basis - mean_kept,
            self._prior(own.dense, prior),
        )
        fit_norm(
            own.LayerNorm,
            (
                (own.dense(x) + kept, theirs.LayerNorm(total) @ self._basis)
                for x, kept, total in examples()
            ),
        )
        return sums.squares, cross

    def _prior(self, own: Any, prior: Tensor) -> Tensor:
        return own.weight if self._from_own else prior


def _mapped(rows: Tensor, maps: Tensor, num_heads: int) -> Tensor:
    """The rows of the leading heads, mapped to fewer rows for each head, in float64.

    Args:
        rows: (num_heads * head size, ...)
        maps: (heads, rows of each, head size)

    Returns:
        (heads * rows of each, ...)
    """
    heads = rows.double().unflatten(0, (num_heads, -1))[: len(maps)]
    return (maps @ heads).flatten(0, 1)


def fit_head(
    student: Any, evidence: Evidence, first: Tensor, basis: Tensor, *, from_own: bool = False
) -> None:
    """Fit pooler and classifier.

    Args:
        first: the student's last hidden state of the first token, (texts, hidden)
        from_own: as for :class:`LayerFit`.
    """
    own, theirs = student.bert.pooler.dense, evidence.teacher.bert.pooler.dense
    width = own.out_features
    prior = own.weight if from_own else theirs.weight[:width] @ basis
    fit_linear(own, [(first, theirs(evidence.first)[:, :width])], prior)
    pooled = own(first).tanh()
    classifier = student.classifier if from_own else evidence.teacher.classifier
    fit_linear(student.classifier, [(pooled, evidence.logits)], classifier.weight[:, :width])


def fit_linear(module: nn.Linear | KroneckerLinear, pairs: Pairs, prior: Tensor) -> None:
    """Solve for a linear layer in place; it stays near ``prior`` where inputs hardly vary."""
    _set(module, least_squares(pairs, prior, STRENGTH))


def fit_by(
    module: nn.Linear | KroneckerLinear,
    squares: Tensor,
    cross: Tensor,
    mean_inputs: Tensor,
    mean_targets: Tensor,
    prior: Tensor,
) -> None:
    """:func:`fit_linear` by sums, as :func:`supernet.distill.least_squares.solved` takes them."""
    _set(module, solved(squares, cross, mean_inputs, mean_targets, prior, STRENGTH))


def _set(module: nn.Linear | KroneckerLinear, found: Solution) -> None:
    """Set a linear layer. A factored one takes the factors with the nearest outputs."""
    if isinstance(module, KroneckerLinear):
        left, right = nearest_by_outputs(found.weight, found.moments, factors_of(module))
        module.left.copy_(left)
        module.right.copy_(right)
    else:
        module.weight.copy_(found.weight)
    module.bias.copy_(found.bias(module.weight))


def fit_norm(module: nn.LayerNorm, pairs: Pairs) -> None:
    """Solve for the gain and offset of a normalization, unit by unit, by least squares in place.

    A constant unit gets a gain of one.
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
