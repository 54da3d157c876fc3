"""Students fitted to their teacher in closed form."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import BertForSequenceClassification, PreTrainedModel

from supernet.architecture import Architecture, Layer, layer_map
from supernet.compress.fitted_factors import nearest_table
from supernet.compress.kronecker import factorized, large_matrices, plan
from supernet.distill import fitted_start
from supernet.distill.fitted_start import fit_table, fit_to_teacher, principal_directions
from supernet.distill.least_squares import least_squares, moments
from supernet.distill.losses import hidden_loss
from supernet.distill.trainer import Learner
from supernet.errors import NasError
from supernet.factors import Factors, Rule, low_rank, sums_of
from supernet.importance import measure_importance, reorder
from supernet.kronecker_layers import KroneckerEmbedding
from supernet.model import Supernet
from supernet.observe import observe
from supernet.student import carried_settings, new_student

SMALL = Architecture.uniform(
    num_layers=1, hidden_size=16, num_heads=2, qkv_size=16, intermediate_size=32
)
MIXED = Architecture(
    24,
    (
        Layer(num_heads=3, qkv_size=12, intermediate_size=40),
        Layer(num_heads=2, qkv_size=16, intermediate_size=16),
    ),
)


def texts(seed: int, count: int = 128) -> list[dict[str, Tensor]]:
    """Batches of two-part texts of 4 to 12 tokens, padded."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count // 32):
        lengths = rng.integers(4, 13, size=32)
        mask = torch.from_numpy(np.arange(lengths.max()) < lengths[:, None]).long()
        ids = torch.from_numpy(rng.integers(5, 120, size=mask.shape)) * mask
        segments = (torch.arange(mask.shape[1])[None] > 5).long() * mask
        found.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": segments})
    return found


def new(teacher: BertForSequenceClassification, architecture: Architecture) -> PreTrainedModel:
    supernet = Supernet(teacher)
    return new_student(architecture, supernet.shape, carried_settings(teacher.config))


def fitted(teacher: BertForSequenceClassification, architecture: Architecture) -> PreTrainedModel:
    student = new(teacher, architecture)
    fit_to_teacher(student, teacher, texts(0))
    return student


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 6), st.integers(1, 5), st.integers(1, 40), st.floats(1e-3, 10.0), st.integers(0)
)
def test_least_squares_is_ridge_regression_towards_the_prior(
    inputs: int, outputs: int, examples: int, strength: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(examples, inputs)), rng.normal(size=(examples, outputs))
    prior = rng.normal(size=(outputs, inputs))
    half = examples // 2
    pairs = [
        (torch.from_numpy(x[part]), torch.from_numpy(y[part]))
        for part in (slice(half), slice(half, None))
    ]
    found = least_squares(pairs, torch.from_numpy(prior), strength)
    # The same minimum as that of ordinary least squares with rows that pull towards the prior.
    centred = x - x.mean(0)
    pull = np.sqrt(strength * max((centred**2).sum(0).mean(), 1e-30)) * np.eye(inputs)
    expected, *_ = np.linalg.lstsq(
        np.vstack([centred, pull]), np.vstack([y - y.mean(0), pull @ prior.T]), rcond=None
    )
    np.testing.assert_allclose(found.weight.numpy(), expected.T, atol=1e-6)

    def cost(weight: np.ndarray) -> float:
        bias = found.bias(torch.from_numpy(weight)).numpy()
        np.testing.assert_allclose(bias, y.mean(0) - weight @ x.mean(0), atol=1e-9)
        pulled = pull @ (weight - prior).T
        return float(((x @ weight.T + bias - y) ** 2).sum() + (pulled**2).sum())

    other = prior + rng.normal(size=prior.shape)
    difference = other - found.weight.numpy()
    assert cost(other) - cost(found.weight.numpy()) == pytest.approx(
        np.trace(difference @ found.moments.numpy() @ difference.T), rel=1e-6, abs=1e-6
    )


def test_a_student_of_its_teachers_sizes_is_its_copy(bert: BertForSequenceClassification) -> None:
    student = fitted(bert, Supernet(bert).largest)
    for batch in texts(1):
        torch.testing.assert_close(
            student(**batch).logits, bert(**batch).logits, atol=1e-4, rtol=1e-4
        )


def widest(bert: BertForSequenceClassification, rank: int) -> dict[str, Factors]:
    """Factors of all that is factored: of so many columns times rows."""
    return {
        name: Factors((rows, 1), (1, columns), min(rank, rows, columns))
        for name, (rows, columns) in large_matrices(bert)
    }


@pytest.mark.parametrize("sizes", [None, MIXED], ids=str)
def test_factors_with_room_for_all_make_a_copy(
    bert: BertForSequenceClassification, sizes: Architecture | None
) -> None:
    """Of a stock model, and of one whose layers differ."""
    whole = bert if sizes is None else Supernet(bert).extract(sizes).eval()
    student = factorized(whole, widest(whole, 64))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.normal_()
    fit_to_teacher(student, whole, texts(0))
    for batch in texts(1):
        torch.testing.assert_close(
            student(**batch).logits, whole(**batch).logits, atol=1e-3, rtol=1e-3
        )


@pytest.mark.parametrize("rule", [sums_of(1), sums_of(2), low_rank], ids=["1", "2", "svd"])
def test_fitted_factors_compute_more_of_what_the_original_does(
    bert: BertForSequenceClassification, rule: Rule
) -> None:
    student = factorized(bert, plan(bert, bert.num_parameters() // 2, rule))

    def distance() -> float:
        return sum(
            (student(**batch).logits - bert(**batch).logits).square().mean().item()
            for batch in texts(1)
        )

    nearest_by_weights = distance()
    fit_to_teacher(student, bert, texts(0))
    assert distance() < 0.7 * nearest_by_weights


def test_narrow_heads_make_the_same_scores(bert: BertForSequenceClassification) -> None:
    """A student whose heads have what the teacher's do not use is its copy too."""
    with torch.no_grad():
        for layer in bert.bert.encoder.layer:  # heads of 8, whose last 4 dimensions are idle
            for part in (layer.attention.self.query, layer.attention.self.value):
                part.weight.unflatten(0, (4, 8))[:, 4:] = 0
                part.bias.unflatten(0, (4, 8))[:, 4:] = 0
    student = fitted(bert, Architecture.uniform(
        num_layers=2, hidden_size=32, num_heads=4, qkv_size=16, intermediate_size=64
    ))  # fmt: skip
    for batch in texts(1):
        torch.testing.assert_close(
            student(**batch).logits, bert(**batch).logits, atol=1e-3, rtol=1e-3
        )


@pytest.mark.parametrize("architecture", [SMALL, MIXED], ids=str)
def test_it_is_nearer_to_its_teacher_the_less_it_is_drawn_to_what_the_teacher_has(
    bert: BertForSequenceClassification,
    architecture: Architecture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And nearer than the leading units; on the texts that it was fitted on."""
    generator = torch.Generator().manual_seed(0)
    reorder(bert, measure_importance(bert, texts(0), generator=generator))
    before = deepcopy(bert.state_dict())

    def distance(student: PreTrainedModel) -> float:
        return sum(
            (student(**batch).logits - bert(**batch).logits).square().mean().item()
            for batch in texts(0)
        )

    found = []
    for strength in (1e9, 1.0, 0.1, 0.01):  # the first solves for nothing but biases and norms
        monkeypatch.setattr(fitted_start, "STRENGTH", strength)
        found.append(distance(fitted(bert, architecture)))
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.85 * found[0]
    assert found[-1] < 0.8 * distance(Supernet(bert).extract(architecture))
    assert all(torch.equal(value, before[name]) for name, value in bert.state_dict().items())


def test_the_basis_spans_what_varies_most() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 12))
    states = [torch.from_numpy(rng.normal(size=(200, 5)) @ mixing) for _ in range(2)]
    basis = principal_directions([moments([(one[:70],), (one[70:],)]).squares for one in states], 5)
    torch.testing.assert_close(basis.T @ basis, torch.eye(5).double())
    for one in states:
        centred = one - one.mean(0)
        torch.testing.assert_close(centred @ basis @ basis.T, centred)


def test_a_student_larger_than_its_teacher_is_refused(bert: BertForSequenceClassification) -> None:
    deeper = Architecture.uniform(
        num_layers=3, hidden_size=16, num_heads=2, qkv_size=16, intermediate_size=32
    )
    with pytest.raises(NasError, match="does not fit in its teacher's"):
        fit_to_teacher(new(bert, deeper), bert, texts(0))
    with pytest.raises(NasError, match="fitted on texts, and there are none"):
        fit_to_teacher(new(bert, SMALL), bert, [])


@pytest.mark.parametrize("hidden", [1, 2])
@pytest.mark.parametrize("count", [1, 32])
def test_weights_are_finite_however_little_there_is(
    bert: BertForSequenceClassification, hidden: int, count: int
) -> None:
    smallest = Architecture.uniform(
        num_layers=1, hidden_size=hidden, num_heads=1, qkv_size=1, intermediate_size=1
    )
    student = new(bert, smallest)
    some = {name: values[:count, :1] for name, values in texts(0)[0].items()}
    fit_to_teacher(student, bert, [some])
    assert all(value.isfinite().all() for value in student.state_dict().values())


@pytest.mark.parametrize("architecture", [SMALL, MIXED], ids=str)
def test_a_projection_aligned_to_fitted_states_makes_the_teachers_of_them(
    bert: BertForSequenceClassification, architecture: Architecture
) -> None:
    learner = Learner(fitted(bert, architecture), bert.config.hidden_size)

    def distance() -> float:
        batch = texts(1)[0]
        own = learner(**batch)[0].hidden_states
        theirs = observe(bert, batch).hidden_states
        mapped = layer_map(len(own) - 1, len(theirs) - 1)
        return sum(
            hidden_loss(mine, theirs[index], batch["attention_mask"]).item()
            for mine, index in zip(own, mapped, strict=True)
        )

    learner.align(bert, texts(0))
    aligned = distance()
    with torch.no_grad():  # the same states for every text
        learner.projection.weight.zero_()
    assert aligned < 0.8 * distance()


def test_a_projection_finds_units_in_any_order(bert: BertForSequenceClassification) -> None:
    """Of a teacher's copy whose units stand elsewhere, it makes the teacher's own states."""
    ordered = deepcopy(bert)
    generator = torch.Generator().manual_seed(0)
    reorder(ordered, measure_importance(ordered, texts(0), generator=generator))
    learner = Learner(ordered, bert.config.hidden_size)
    learner.align(bert, texts(0))
    batch = texts(1)[0]
    for mine, theirs in zip(
        learner(**batch)[0].hidden_states, observe(bert, batch).hidden_states, strict=True
    ):
        assert hidden_loss(mine, theirs, batch["attention_mask"]).item() < 1e-3


@torch.no_grad()
def test_words_of_a_table_count_by_their_share_of_the_texts() -> None:
    """And each word of the vocabulary a little besides, for other texts have other words."""
    torch.manual_seed(0)
    table = torch.randn(12, 8)
    words = torch.tensor([3, 3, 3, 7, 3, 3, 5, 3])
    module = KroneckerEmbedding(12, 2, 4, terms=1)
    fit_table(module, table, words)
    shares = torch.full((12,), 1 / 12)
    shares[3] += 6 / 8
    shares[5] += 1 / 8
    shares[7] += 1 / 8
    left, right = nearest_table(table, shares, Factors((12, 2), (1, 4), 1))
    expected = torch.einsum("rij,rkl->ikjl", left, right).reshape(12, 8)
    torch.testing.assert_close(module.weight.detach(), expected)
    errors = (module.weight.detach() - table).norm(dim=1) / table.norm(dim=1)
    assert errors[3] < errors.mean()


def test_a_projection_is_aligned_between_states_of_the_same_depth(
    bert: BertForSequenceClassification,
) -> None:
    """A student of one layer ends where its teacher of two does."""
    student = Supernet.from_teacher(bert).extract(SMALL)
    learner = Learner(student, bert.config.hidden_size)
    batches = [texts(seed) for seed in (0, 1)]
    given = [batch for part in batches for batch in part]
    pairs = []
    prior = learner.projection.weight.detach().clone()
    with torch.no_grad():
        for batch in given:
            real = batch["attention_mask"].bool()
            own, theirs = observe(student, batch), observe(bert, batch)
            for mine, other in ((0, 0), (1, 2)):
                pairs.append((own.hidden_states[mine][real], theirs.hidden_states[other][real]))
    learner.align(bert, given)
    expected = least_squares(pairs, prior, strength=1e-3)
    weight, bias = expected.weight, expected.bias(expected.weight)
    torch.testing.assert_close(learner.projection.weight.detach(), weight.float())
    torch.testing.assert_close(learner.projection.bias.detach(), bias.float())
