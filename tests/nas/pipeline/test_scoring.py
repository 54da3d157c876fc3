"""What a sub-network is scored by, and that arrays alone build the same scorer anywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from nas.data.tokenization import EncodedExamples
from nas.models.evaluate import predict, quickly, score
from nas.pipeline.scoring import SupernetScorer, sub_network
from supernet.architecture import Architecture
from supernet.distill.evidence import Evidence
from supernet.distill.fitted_start import fit
from supernet.distill.packed_texts import PackedTexts
from supernet.model import Supernet

WHOLE = Architecture.uniform(num_layers=2, hidden_size=32, num_heads=4, intermediate_size=48)
COMPRESSED = replace(WHOLE, layers=tuple(replace(layer, compression=2) for layer in WHOLE.layers))


@pytest.fixture
def supernet() -> Supernet:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=12, num_labels=3, initializer_range=0.3,
    )  # fmt: skip
    return Supernet.from_teacher(BertForSequenceClassification(config)).eval()


@pytest.fixture
def examples() -> EncodedExamples:
    rng = np.random.default_rng(0)
    ids = [rng.integers(5, 60, rng.integers(3, 12)).tolist() for _ in range(150)]
    columns = {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}
    return EncodedExamples(columns, rng.integers(0, 3, len(ids)).tolist())


def collate(rows):
    tokens = max(len(row["input_ids"]) for row in rows)
    return {
        name: torch.tensor([row[name] + [0] * (tokens - len(row[name])) for row in rows])
        for name in ("input_ids", "attention_mask")
    }


def read_only(arrays):
    """As an object store hands them out."""
    found = {name: values.copy() for name, values in arrays.items()}
    for values in found.values():
        values.flags.writeable = False
    return found


@pytest.mark.parametrize("architecture", [WHOLE, COMPRESSED], ids=str)
@pytest.mark.filterwarnings("error")
def test_arrays_that_none_may_write_score_as_the_supernet_does(supernet, examples, architecture):
    texts = [collate([examples[row] for row in range(start, start + 32)]) for start in (0, 32)]
    given = SupernetScorer.of(supernet, examples, collate, "accuracy", texts)
    scorer = replace(
        given,
        weights=read_only(given.weights),
        batches=tuple(map(read_only, given.batches)),
        texts=tuple(map(read_only, given.texts)),
    )
    logits = sub_network(supernet, architecture, texts)
    with quickly(torch.device("cpu")):
        expected = score(logits, examples, collate, torch.device("cpu"), "accuracy")
    assert scorer.build()(architecture) == expected
    assert 0.1 < expected < 0.9


def test_a_compressed_sub_network_is_scored_with_fitted_factors(supernet: Supernet) -> None:
    """Nearer to what the whole one computes than the nearest factors are."""
    batches = [
        {"input_ids": torch.randint(5, 60, (32, 10)), "attention_mask": torch.ones(32, 10).long()}
        for _ in range(5)
    ]
    given, *texts = batches
    whole = sub_network(supernet, COMPRESSED.whole, [])(given)
    torch.testing.assert_close(whole, supernet.extract(COMPRESSED.whole)(**given).logits)
    nearest = supernet.extract(COMPRESSED)(**given).logits
    fitted = sub_network(supernet, COMPRESSED, texts)(given)
    assert (fitted - whole).square().sum() < 0.7 * (nearest - whole).square().sum()


def test_a_fitted_candidate_is_scored_by_what_its_depth_promises(supernet, examples) -> None:
    """By its agreement with the teacher; what is lacking is scaled by depth."""
    shallow = Architecture.uniform(num_layers=2, hidden_size=16, num_heads=2, intermediate_size=24)
    texts = [collate([examples[row] for row in range(start, start + 32)]) for start in (0, 32)]
    scorer = SupernetScorer.of(
        supernet, examples, collate, "accuracy", texts, scores="fitted", teacher=supernet
    )
    student = supernet.blank(shallow)
    fit(student, Evidence(supernet.weights, PackedTexts.of(texts)))
    with quickly(torch.device("cpu")):
        theirs, ours = (
            predict(lambda batch, m=m: m(**batch).logits, examples, collate, torch.device("cpu"))
            for m in (supernet, student.eval())
        )
    found = (ours.argmax(1) == theirs.argmax(1)).mean()
    assert scorer.build()(shallow) == pytest.approx(1 - (1 - found) * 2 / 3)
    assert found < 1
