"""What a teacher computes, packed without padding, against stock transformers on padded batches."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import BertForSequenceClassification

from supernet.distill.evidence import Evidence, bytes_kept
from supernet.distill.fitted_start import fit, repair
from supernet.distill.least_squares import moments
from supernet.distill.packed_texts import PackedTexts
from supernet.distill.teacher_outputs import TeacherOutputs
from supernet.errors import NasError
from supernet.model import Supernet
from supernet.observe import observe
from tests.supernet.distill.test_fitted_start import MIXED, SMALL, new, texts


def unpacked(packed: PackedTexts, values: Tensor) -> list[Tensor]:
    """What belongs to each text, in the order in which the texts were given."""
    parts = values.split(packed.lengths.tolist())
    found = dict(zip(packed.order.tolist(), parts, strict=True))
    return [found[row] for row in range(len(found))]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=4))
def test_packing_keeps_every_token_of_every_text(lengths: list[list[int]]) -> None:
    batches, given_ids = [], []
    for number, some in enumerate(lengths):
        mask = (torch.arange(max(some))[None] < torch.tensor(some)[:, None]).long()
        ids = (torch.arange(mask.numel()).view(mask.shape) + 100 * number + 1) * mask
        batches.append({"input_ids": ids, "attention_mask": mask})
        given_ids += [row[:count] for row, count in zip(ids, some, strict=True)]
    packed = PackedTexts.of(batches)
    assert len(packed) == len(given_ids)
    assert packed.tokens == sum(map(len, given_ids))
    assert packed.lengths.tolist() == sorted(map(len, given_ids))
    for mine, theirs in zip(unpacked(packed, packed.input_ids), given_ids, strict=True):
        assert mine.tolist() == theirs.tolist()
    for positions in unpacked(packed, packed.positions):
        assert positions.tolist() == list(range(len(positions)))


def test_no_texts_are_refused() -> None:
    with pytest.raises(NasError, match="fitted on texts, and there are none"):
        PackedTexts.of([])


@pytest.mark.parametrize("memory_limit", [10**9, 0], ids=["kept", "streamed"])
@torch.no_grad()
def test_states_and_logits_are_stock_transformers(
    bert: BertForSequenceClassification, memory_limit: int
) -> None:
    batches = texts(0, 64)
    evidence = Evidence(bert, PackedTexts.of(batches), memory_limit=memory_limit)
    expected: dict[int, list[Tensor]] = {0: [], 1: [], 2: []}
    logits = []
    for batch in batches:
        stock = bert(**batch, output_hidden_states=True)
        logits.append(stock.logits)
        for row, mask in enumerate(batch["attention_mask"].bool()):
            for number in expected:
                expected[number].append(stock.hidden_states[number][row][mask])
    for number in (2, 0, 1):  # in any order
        found = unpacked(evidence.texts, evidence.state(number))
        for mine, theirs in zip(found, expected[number], strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    order = evidence.texts.order.argsort()
    torch.testing.assert_close(evidence.logits[order], torch.cat(logits), atol=1e-5, rtol=1e-4)


def test_what_does_not_fit_in_memory_is_streamed_to_the_same_fit(
    bert: BertForSequenceClassification,
) -> None:
    packed = PackedTexts.of(texts(0))
    assert bytes_kept(packed.tokens, Supernet(bert).largest) == packed.tokens * 2 * 2 * 32 * 4
    kept, streamed = (new(bert, MIXED) for _ in range(2))
    fit(kept, Evidence(bert, packed))
    fit(streamed, Evidence(bert, packed, memory_limit=0))
    for name, value in kept.state_dict().items():
        torch.testing.assert_close(streamed.state_dict()[name], value)


def test_moments_are_covariances() -> None:
    rng = np.random.default_rng(0)
    x, y = 50 + rng.normal(size=(300, 4)), rng.normal(size=(300, 3)) - 20
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-3)):
        given = [torch.from_numpy(one).to(dtype) for one in (x, y)]
        found = moments(zip(*(one.split(70) for one in given), strict=True))
        centred = x - x.mean(0)
        np.testing.assert_allclose(found.squares, centred.T @ centred, atol=tolerance)
        np.testing.assert_allclose(found.crosses[0], centred.T @ (y - y.mean(0)), atol=tolerance)
        np.testing.assert_allclose(found.means[0], x.mean(0), atol=tolerance)
        np.testing.assert_allclose(found.means[1], y.mean(0), atol=tolerance)


@torch.no_grad()
def test_a_repaired_sub_network_is_nearer_to_the_teacher(
    bert: BertForSequenceClassification,
) -> None:
    """By its linears, near the weights that it has: after noise as after none."""
    evidence = Evidence(bert, PackedTexts.of(texts(0)))

    def distance(model: torch.nn.Module) -> float:
        return sum(
            (model(**batch).logits - bert(**batch).logits).square().mean().item()
            for batch in texts(1)
        )

    for architecture in (SMALL, MIXED):
        inherited = Supernet(bert).extract(architecture)
        repaired = deepcopy(inherited)
        repair(repaired, evidence)
        assert distance(repaired) < 0.9 * distance(inherited)
    whole = Supernet(bert).extract(Supernet(bert).largest)
    repair(whole, evidence)
    assert distance(whole) < 1e-6, "of the teacher itself there is nothing to repair"


@torch.no_grad()
def test_outputs_known_from_evidence_are_what_the_teacher_computes(
    bert: BertForSequenceClassification,
) -> None:
    batches = texts(0, 64)
    outputs = TeacherOutputs.of_evidence(Evidence(bert, PackedTexts.of(batches)), (0, 2))
    observed = observe(bert, batches[1])
    mask = batches[1]["attention_mask"].bool()
    found = outputs(torch.arange(32, 64), mask.shape[1], torch.device("cpu"))
    torch.testing.assert_close(found.logits, observed.logits, atol=1e-5, rtol=1e-4)
    for mine, number in zip(found.hidden_states, (0, 2), strict=True):
        theirs = observed.hidden_states[number]
        torch.testing.assert_close(mine[mask], theirs[mask], atol=5e-3, rtol=5e-3)  # halves


@pytest.mark.parametrize("memory_limit", [10**9, 0], ids=["kept", "streamed"])
@torch.no_grad()
def test_a_part_is_the_evidence_on_its_texts_alone(
    bert: BertForSequenceClassification, memory_limit: int
) -> None:
    batches = texts(7)
    whole = Evidence(bert, PackedTexts.of(batches), memory_limit=memory_limit)
    given = [
        {name: values[row : row + 1] for name, values in batch.items()}
        for batch in batches
        for row in range(len(batch["input_ids"]))
    ]
    rows = torch.arange(0, len(given), 3)
    alone = Evidence(bert, PackedTexts.of([given[int(row)] for row in rows]))
    part = whole.part(torch.isin(whole.texts.order, rows))
    assert part.texts.groups == alone.texts.groups
    assert part.texts.order.tolist() == alone.texts.order.tolist()
    for name in ("input_ids", "token_type_ids", "positions"):
        assert torch.equal(getattr(part.texts, name), getattr(alone.texts, name))
    torch.testing.assert_close(part.logits, alone.logits, rtol=1e-4, atol=1e-4)
    for number in range(bert.config.num_hidden_layers + 1):
        torch.testing.assert_close(part.spread(number), alone.spread(number), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(part.state(number), alone.state(number), rtol=1e-4, atol=1e-4)
