"""Answers to single texts, against stock transformers on the same folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

from latency.options import load_target
from nas.cli import app
from nas.data.task_data import Examples
from nas.models.export import export
from nas.models.single_texts import answers
from nas.store.result_folder import MODEL
from supernet.errors import NasError
from tests.nas.learnt import POSITIONS, write_teacher

NAMES = ("[low]", "high", "odd")
CPU = load_target("cpu")


def write_result(folder: Path, **config: Any) -> None:
    """A result of a model with a random head."""
    write_teacher(folder / "plain")
    tokenizer = AutoTokenizer.from_pretrained(folder / "plain")
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(folder / "plain", **config).eval()
    with torch.no_grad():
        model.classifier.weight.normal_(std=2.0)
    ids = torch.tensor([tokenizer("word1 word2")["input_ids"]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    export(model, tokenizer, folder, sample=inputs | {"token_type_ids": torch.zeros_like(ids)})


def stock_logits(folder: Path, *texts: str) -> torch.Tensor:
    model = AutoModelForSequenceClassification.from_pretrained(folder / MODEL)
    tokenizer = AutoTokenizer.from_pretrained(folder / MODEL)
    with torch.no_grad():
        logits: torch.Tensor = model(
            **tokenizer(*texts, truncation=True, max_length=POSITIONS, return_tensors="pt")
        ).logits[0]
    return logits


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("result")
    write_result(folder, id2label=dict(enumerate(NAMES)))
    return folder


@pytest.mark.parametrize(
    "texts", [("word3 word4",), ("word5",), ("word6 word7", "word8"), ("word9 " * 100,)]
)
def test_the_answer_is_the_likeliest_class(result: Path, texts: tuple[str, ...]) -> None:
    (found,) = answers(result / MODEL, Examples(*((text,) for text in texts)), CPU)
    shares = stock_logits(result, *texts).softmax(0)
    assert found.told == NAMES[int(shares.argmax())]
    assert found.confidence == pytest.approx(float(shares.max()), abs=1e-4)
    words = sum(len(text.split()) for text in texts) + 1 + len(texts)
    assert found.tokens == min(words, POSITIONS)
    assert found.is_cut == (words > POSITIONS)
    assert found.milliseconds > 0


def test_a_value_has_no_confidence(tmp_path: Path) -> None:
    write_result(tmp_path, num_labels=1, problem_type="regression")
    (found,) = answers(tmp_path / MODEL, Examples(("word3 word4",)), CPU)
    assert float(found.told) == pytest.approx(
        stock_logits(tmp_path, "word3 word4").item(), rel=1e-3
    )
    assert found.confidence is None


def test_it_is_asked_from_the_command_line(result: Path) -> None:
    told = CliRunner().invoke(app, ["try", str(result), "word3 [b]x[/b]", "word5"])
    assert told.exit_code == 0
    rows = [line for line in told.stdout.splitlines() if "word" in line]
    assert "[b]x[/b]" in rows[0]
    assert all(any(name in row for name in NAMES) and "%" in row for row in rows)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["x", "--second", "a", "--second", "b"], "--second: 2 given for 1 texts"),
        (["x", "--target", "cpu-int8"], "give one of onnxruntime on the cpu with dtype float32"),
    ],
)
def test_what_cannot_be_asked_is_refused(result: Path, words: list[str], line: str) -> None:
    with pytest.raises(NasError, match=line):
        CliRunner().invoke(app, ["try", str(result), *words], catch_exceptions=False)
