"""Values of a regression are learnt in standard units, and predicted in their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from nas.data.task_data import load_data
from nas.models.measured import load_model
from nas.pipeline.learning import read_score
from nas.pipeline.pipeline import run_distillation
from nas.tasks.units import Units, predict_learnt, predict_values
from supernet.architecture import Architecture
from tests.nas.learnt import RECIPE, WORDS, ground_in

STUDENT = Architecture.uniform(
    num_layers=2, hidden_size=16, num_heads=2, intermediate_size=32
)  # fmt: skip


def write_values(folder: Path, offset: float, scale: float) -> None:
    """Texts whose value grows with their first word's number."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(320):
        numbers = rng.integers(0, len(WORDS), rng.integers(3, 11))
        text = " ".join(WORDS[number] for number in numbers)
        rows.append({"text": text, "label": offset + scale * (numbers[0] / 8 + 0.125)})
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))


def predicted(model: PreTrainedModel, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Of the test split, with the values themselves."""
    _, tokenizer = load_model(folder)
    test = load_data(str(folder.parent.parent / "data"), seed=0).test
    with torch.no_grad():
        logits = model(**tokenizer(list(test.text_a), padding=True, return_tensors="pt")).logits
    return logits[:, 0].numpy(), np.asarray(test.labels)


@pytest.mark.slow
def test_a_scale_changes_neither_scores_nor_what_is_predicted(tmp_path: Path) -> None:
    """Teacher and student of values times 200 are those of the values, and predict 200 times."""
    scores, values = [], []
    for name, (offset, scale) in {"stars": (0.0, 1.0), "points": (700.25, 200.0)}.items():
        root = tmp_path / name
        ground = ground_in(root, finetune=RECIPE["finetune"] | {"epochs": 30, "patience": 6})
        write_values(root / "data", offset, scale)
        told = run_distillation(
            ground.lesson, json.dumps(STUDENT.to_dict()), root / "out", ground.bench
        )
        of_teacher = read_score(ground.teacher, ground.data.task, "test")
        scores.append((of_teacher, told["score"]["test"]))
        found, labels = predicted(load_model(root / "out" / "model")[0], root / "out" / "model")
        assert np.corrcoef(found, labels)[0, 1] > 0.5
        assert np.abs(found - labels).mean() < 0.8 * np.abs(labels - labels.mean()).mean()
        values.append((found - offset) / scale)
        learnt = np.array(ground.task.train.labels)
        assert (learnt.mean(), learnt.std()) == pytest.approx((0, 1), abs=1e-9)
    assert scores[0] == pytest.approx(scores[1], abs=0.02)
    np.testing.assert_allclose(values[0], values[1], atol=0.1)


@given(
    offset=st.floats(-1e4, 1e4),
    scale=st.floats(1e-2, 1e4),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_head_takes_up_units_and_gives_them_back(offset: float, scale: float, seed: int) -> None:
    torch.manual_seed(seed)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=8, num_labels=1,
        )
    ).eval()  # fmt: skip
    units, ids = Units(offset, scale), torch.tensor([[2, 5, 6, 3]])
    with torch.no_grad():
        learnt = model(ids).logits.double()
        predict_values(model, units)
        expected = offset + scale * learnt
        size = abs(offset) + scale
        torch.testing.assert_close(model(ids).logits.double(), expected, rtol=0, atol=1e-6 * size)
        predict_learnt(model, units)
        error = 1e-6 * (1 + abs(offset) / scale)
        torch.testing.assert_close(model(ids).logits.double(), learnt, rtol=0, atol=error)
