"""Narrow heads against the least error that any have, by NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertAttention

from supernet.architecture import Layer
from supernet.distill.narrow_heads import head_maps

HEADS, WIDE, HIDDEN, STATES = 3, 8, 24, 200


def made(seed: int) -> tuple[BertAttention, torch.Tensor]:
    """Attention of 3 heads of 8, and states that it reads, (states, hidden)."""
    torch.manual_seed(seed)
    config = BertConfig(hidden_size=HIDDEN, num_attention_heads=HEADS, initializer_range=0.5)
    attention = BertAttention(config)
    for linear in (attention.self.query, attention.self.key, attention.self.value):
        torch.nn.init.normal_(linear.weight, std=0.3)
        torch.nn.init.normal_(linear.bias)
    spread = torch.randn(HIDDEN, HIDDEN) * torch.logspace(0, -2, HIDDEN)
    return attention, torch.randn(STATES, HIDDEN) @ spread + torch.randn(HIDDEN)


def put_out(linear: torch.nn.Linear, states: torch.Tensor) -> NDArray[np.float64]:
    """(heads, states, head size)"""
    found = torch.nn.functional.linear(
        states.double(), linear.weight.double(), linear.bias.double()
    )
    return found.detach().unflatten(1, (HEADS, WIDE)).transpose(0, 1).numpy()


def root(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(squares)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, HEADS), st.sampled_from([1, 3, 5, WIDE]))
def test_no_heads_so_narrow_attend_or_gather_with_less_error(
    seed: int, heads: int, size: int
) -> None:
    attention, states = made(seed)
    mean = states.double().mean(0)
    covariance = torch.cov(states.double().T, correction=0)
    sizes = Layer(num_heads=heads, qkv_size=heads * size, intermediate_size=1)
    with torch.no_grad():
        maps = head_maps(attention, HEADS, sizes, covariance, mean)
    assert maps.query.shape == maps.key.shape == maps.value.shape == (heads, size, WIDE)
    output = attention.output.dense.weight.detach().double().unflatten(1, (HEADS, WIDE)).numpy()
    for head in range(heads):
        query, key, value = (
            put_out(getattr(attention.self, name), states)[head]
            for name in ("query", "key", "value")
        )
        key, value = key - key.mean(0), value - value.mean(0)
        narrow = (query @ maps.query[head].numpy().T) @ (key @ maps.key[head].numpy().T).T
        error = ((query @ key.T - narrow) ** 2).mean()
        lost = np.linalg.svd(root(query.T @ query / STATES) @ root(key.T @ key / STATES))[1][size:]
        assert error == pytest.approx((lost**2).sum(), rel=1e-6, abs=1e-9)
        gathered = value @ maps.value[head].numpy().T @ maps.output[head].numpy().T
        error = (((value - gathered) @ output[:, head].T) ** 2).sum(1).mean()
        lost = np.linalg.svd(output[:, head] @ root(value.T @ value / STATES))[1][size:]
        assert error == pytest.approx((lost**2).sum(), rel=1e-6, abs=1e-9)


def test_heads_without_use_make_no_numbers_that_are_none() -> None:
    attention, states = made(0)
    for linear in (attention.self.query, attention.self.value):
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    sizes = Layer(num_heads=2, qkv_size=6, intermediate_size=1)
    covariance = torch.cov(states.double().T, correction=0)
    maps = head_maps(attention, HEADS, sizes, covariance, states.double().mean(0))
    assert all(torch.isfinite(one).all() for one in maps)
