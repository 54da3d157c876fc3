"""Teachers load as classifiers for the task, or say why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from nas.data import Task
from nas.labels import align_labels, check_labels
from nas.teacher import load_teacher, outline
from supernet.errors import NasError

TASK = Task("animals", "classification", ("cat", "dog", "fish"), "accuracy")
IDS = torch.tensor([[2, 5, 6, 3]])


def save_tokenizer(folder: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    BertTokenizerFast(vocab={word: row for row, word in enumerate(words)}).save_pretrained(folder)


def config(**options: object) -> BertConfig:
    return BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, **options,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A classifier whose own order of the labels is not the task's."""
    names = {0: "fish", 1: "cat", 2: "dog"}
    torch.manual_seed(0)
    BertForSequenceClassification(config(id2label=names)).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    return tmp_path


def test_a_heads_labels_are_put_in_the_tasks_order(folder: Path) -> None:
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    teacher = load_teacher(str(folder), TASK, seed=0)
    assert teacher.has_head
    with torch.no_grad():
        expected = model(IDS).logits[:, [1, 2, 0]]
        torch.testing.assert_close(teacher.model(IDS).logits, expected)
        align_labels(model, TASK)
        torch.testing.assert_close(model(IDS).logits, expected)


def test_other_labels_are_refused(folder: Path) -> None:
    model = BertForSequenceClassification.from_pretrained(folder)
    birds = Task("birds", "classification", ("tit", "owl", "jay"), "accuracy")
    with pytest.raises(NasError, match=r"predicts cat, dog, fish, the data's labels are jay"):
        check_labels("model", model.config, birds)


def test_weights_that_do_not_load_are_one_line(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(NasError, match="no weights that load") as raised:
        load_teacher(str(folder), TASK, seed=0)
    assert "\n" not in str(raised.value)


def test_a_head_of_another_kind_is_replaced(tmp_path: Path) -> None:
    """DistilBERT's head is not BERT's, so its number of labels does not matter."""
    distil = DistilBertConfig(
        vocab_size=8, dim=8, n_layers=1, n_heads=2, hidden_dim=16, num_labels=2
    )
    DistilBertForSequenceClassification(distil).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    teacher = load_teacher(str(tmp_path), TASK, seed=0)
    assert not teacher.has_head
    assert teacher.model.config.num_labels == 3


def test_the_outline_is_that_of_the_loaded_teacher(folder: Path) -> None:
    teacher = load_teacher(str(folder), TASK, seed=0)
    architecture, shape = outline(str(folder), 3)
    counted = architecture.parameters(shape)
    assert counted == sum(parameter.numel() for parameter in teacher.model.parameters())
