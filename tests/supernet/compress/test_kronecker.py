"""Kronecker layers and factorization against ``numpy.kron`` and the full singular values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
)

from supernet.architecture import Architecture, Layer
from supernet.compress.kronecker import (
    WORDS,
    densified,
    factorized,
    large_matrices,
    nearest,
    plan,
    rearranged,
)
from supernet.errors import NasError
from supernet.factors import Factors, sums_of
from supernet.kronecker_layers import KroneckerEmbedding, KroneckerLinear
from supernet.model import Supernet

UNEVEN = Architecture(16, (Layer(2, 8, 24), Layer(1, 4, 16)))
size = st.integers(1, 6)
shapes = st.tuples(size, size)


@given(shapes, shapes, st.integers(1, 3), st.integers(0, 2**31))
def test_a_linear_multiplies_by_the_kronecker_products(
    left: tuple[int, int], right: tuple[int, int], terms: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = KroneckerLinear(left, right, terms)
    torch.nn.init.normal_(layer.bias)
    inputs = torch.randn(2, 3, layer.in_features, requires_grad=True)
    a, b = layer.left.detach().double().numpy(), layer.right.detach().double().numpy()
    weight = sum(np.kron(a[r], b[r]) for r in range(terms))
    expected = inputs.detach().double().numpy() @ weight.T + layer.bias.detach().numpy()
    outputs = layer(inputs)
    np.testing.assert_allclose(outputs.detach().numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(layer.weight.detach().numpy(), weight, atol=1e-5)

    direction = torch.randn_like(outputs)
    own = torch.autograd.grad(
        (outputs * direction).sum(), (inputs, layer.left, layer.right), retain_graph=True
    )
    dense = torch.nn.functional.linear(inputs, layer.weight, layer.bias)
    other = torch.autograd.grad((dense * direction).sum(), (inputs, layer.left, layer.right))
    for mine, theirs in zip(own, other, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("terms", [1, 4])
def test_a_fresh_layer_keeps_the_scale_of_its_inputs(terms: int) -> None:
    """Its weights have a variance of one over the inputs, however many products are summed."""
    torch.manual_seed(0)
    layers = [KroneckerLinear((8, 8), (8, 16), terms) for _ in range(40)]
    weights = torch.stack([layer.weight.detach() for layer in layers])
    assert weights.std().item() == pytest.approx(128**-0.5, rel=0.1)
    for part in ("left", "right"):
        drawn = torch.stack([getattr(layer, part).detach() for layer in layers])
        assert drawn.std().item() == pytest.approx((128 * terms) ** -0.25, rel=0.1)
        assert drawn.mean().item() == pytest.approx(0, abs=0.05)


def test_an_embedding_is_a_row_of_the_table() -> None:
    layer = KroneckerEmbedding(7, 3, 4, terms=2)
    a, b = layer.left.detach().double().numpy(), layer.right.detach().double().numpy()
    table = sum(np.kron(a[r], b[r]) for r in range(2))
    ids = torch.tensor([[6, 0, 3], [1, 1, 2]])
    np.testing.assert_allclose(layer(ids).detach().numpy(), table[ids.numpy()], atol=1e-6)
    np.testing.assert_allclose(layer.weight.detach().numpy(), table, atol=1e-6)


@given(shapes, shapes, st.integers(1, 4), st.integers(0, 2**31))
def test_the_error_is_what_the_left_out_singular_values_hold(
    left: tuple[int, int], right: tuple[int, int], terms: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(
        left[0] * right[0], left[1] * right[1], generator=generator, dtype=torch.float64
    )
    a, b = nearest(matrix, Factors(left, right, terms))
    found = sum(np.kron(x, y) for x, y in zip(a.numpy(), b.numpy(), strict=True))
    values = np.linalg.svd(rearranged(matrix, left).numpy(), compute_uv=False)
    expected = np.sqrt((values[terms:] ** 2).sum())
    assert np.linalg.norm(matrix.numpy() - found) == pytest.approx(expected, abs=1e-9)


def test_the_rearrangement_makes_a_kronecker_product_an_outer_one() -> None:
    a, b = np.arange(6.0).reshape(2, 3), np.arange(20.0).reshape(4, 5) ** 2
    found = rearranged(torch.from_numpy(np.kron(a, b)), (2, 3)).numpy()
    np.testing.assert_array_equal(found, np.outer(a.ravel(), b.ravel()))


@pytest.mark.slow
def test_bert_base_at_nineteen_times() -> None:
    """The paper's ratio (Tahaei et al. 2021): 5% of 110 million parameters, at a high rank."""
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig())
    whole = model.num_parameters()
    factors = plan(model, int(whole / 19), sums_of(1))
    dense = sum(rows * columns for name, (rows, columns) in large_matrices(model))
    left = whole - dense + sum(one.parameters for one in factors.values())
    assert len(factors) == 1 + 12 * 6
    assert 19 <= whole / left < 20
    assert all(one.rank >= 384 for name, one in factors.items() if name != WORDS)


@pytest.mark.parametrize("architecture", [None, UNEVEN])
@pytest.mark.parametrize("terms", [1, 2])
def test_a_model_becomes_as_small_as_asked(
    bert: BertForSequenceClassification,
    inputs: dict[str, torch.Tensor],
    architecture: Architecture | None,
    terms: int,
) -> None:
    model = bert if architecture is None else Supernet.from_teacher(bert).extract(architecture)
    target = int(0.7 * model.num_parameters())
    compressed = factorized(model, plan(model, target, sums_of(terms)))
    assert compressed.num_parameters() <= target
    dense = densified(compressed)
    assert dense.num_parameters() == model.num_parameters()
    torch.testing.assert_close(
        compressed(**inputs).logits, dense(**inputs).logits, atol=1e-4, rtol=1e-4
    )
    assert not torch.allclose(compressed(**inputs).logits, model(**inputs).logits, atol=1e-3)


def test_as_many_terms_as_the_rank_lose_nothing(
    bert: BertForSequenceClassification, inputs: dict[str, torch.Tensor]
) -> None:
    factors = {
        name: Factors((rows // 2, columns // 2), (2, 2), 4)
        for name, (rows, columns) in large_matrices(bert)
        if name.startswith("encoder")
    }
    same = factorized(bert, factors)
    torch.testing.assert_close(same(**inputs).logits, bert(**inputs).logits, atol=1e-4, rtol=1e-4)


def test_columns_times_rows_are_the_truncated_singular_values() -> None:
    """(m, 1) kron (1, n) is an outer product, and the nearest sum of r the best of rank r."""
    matrix = torch.randn(12, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left, right = nearest(matrix, Factors((12, 1), (1, 9), 3))
    u, s, vh = np.linalg.svd(matrix.numpy(), full_matrices=False)
    found = np.einsum("rij,rkl->ikjl", left, right).reshape(12, 9)
    np.testing.assert_allclose(found, (u[:, :3] * s[:3]) @ vh[:3], atol=1e-9)


@pytest.mark.parametrize("ratio", [1.5, 2.0, 4.0])
def test_what_the_table_leaves_over_goes_to_the_linears(
    bert: BertForSequenceClassification, ratio: float
) -> None:
    """Linears larger by one ratio, but for its step of 2%, would make the model too large."""
    limit = int(bert.num_parameters() / ratio)
    factors = plan(bert, limit, sums_of(1))
    linears = {name: sizes for name, sizes in large_matrices(bert) if name != WORDS}
    size = factorized(bert, factors).num_parameters()
    others = size - sum(factors[name].parameters for name in linears)
    found, small_enough = [], []
    for one in np.geomspace(1.0, 16.0, 2000):
        chosen = {name: sums_of(1)(*linears[name], one, False) for name in linears}
        if others + sum(one.parameters for one in chosen.values() if one is not None) <= limit:
            small_enough.append(one)
        if factors == factors | chosen:
            found.append(one)
    assert found[0] <= 1.03 * small_enough[0]


def test_an_impossible_size_names_the_smallest(bert: BertForSequenceClassification) -> None:
    with pytest.raises(NasError, match=r"parameters must be at least [\d,]+, not 10"):
        plan(bert, 10, sums_of(1))


def test_a_saved_model_loads_as_it_was(
    bert: BertForSequenceClassification, inputs: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    compressed = factorized(bert, plan(bert, int(0.7 * bert.num_parameters()), sums_of(2)))
    compressed.save_pretrained(tmp_path)
    assert {"modeling_tailorbert.py", "kronecker_layers.py"} <= {p.name for p in tmp_path.iterdir()}
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded.eval()(**inputs).logits, compressed(**inputs).logits)
