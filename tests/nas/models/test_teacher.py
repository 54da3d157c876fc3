"""Teachers load as classifiers for the task, or say why not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoConfig,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from nas.data.task_data import Examples, TaskData
from nas.models.outline import inspect_teacher, outline
from nas.models.teacher import load_teacher
from nas.models.teacher_checks import check_reading
from nas.tasks.chance import doubt
from nas.tasks.classification import CLASSIFICATION
from nas.tasks.kinds import Head
from nas.tasks.labels import align_labels, check_labels, head_of
from nas.tasks.metrics import compute
from nas.tasks.regression import REGRESSION
from nas.tasks.task import Task
from supernet.errors import NasError

TASK = Task("animals", CLASSIFICATION, ("cat", "dog", "fish"), "accuracy")
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
    model = BertForSequenceClassification(config(id2label=names))
    with torch.no_grad():  # a fresh head's is zero
        model.classifier.bias.copy_(torch.tensor([0.3, -0.7, 1.1]))
    model.save_pretrained(tmp_path)
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
    birds = Task("birds", CLASSIFICATION, ("tit", "owl", "jay"), "accuracy")
    with pytest.raises(NasError, match=r"predicts cat, dog, fish, the data's labels are jay") as no:
        check_labels("model", model.config, birds)
    assert "--labels" not in str(no.value)  # which not every command has
    numbered = Task("birds", CLASSIFICATION, ("0", "1", "2"), "accuracy")
    with pytest.raises(
        NasError, match=r"labels are 0, 1, 2; if these are .* --labels FIRST.*; fine-tune"
    ):
        load_teacher(str(folder), numbered, seed=0)
    assert load_teacher(str(folder), numbered, seed=0, labels=("2", "0", "1")).has_head


def test_weights_that_do_not_load_are_one_line(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(NasError, match="does not load") as raised:
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
    assert "one of distilbert's own kind" in teacher.told
    assert teacher.model.config.num_labels == 3


def edit_config(folder: Path, **edits: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | edits))


@pytest.mark.parametrize(
    ("edits", "says"),
    [
        (
            {"id2label": {"1": "fish", "2": "cat", "3": "dog"}},
            r"the numbers \[1, 2, 3\]; they must be",
        ),
        ({"id2label": ["fish", "cat", "dog"]}, "config.json cannot be read"),
        ({"dtype": "auto"}, r"config.json cannot be read: .*'auto'"),
        ({"vocab_size": "8"}, r"config.json cannot be read: .*'vocab_size'"),
        ({"layer_norm_eps": None}, r"config.json cannot be read: .*'layer_norm_eps'"),
        ({"pad_token_id": 99}, "does not load: .*[Pp]adding_idx"),
        ({"num_attention_heads": 0}, "does not load: ZeroDivisionError"),
        ({"hidden_dropout_prob": 2.0}, "dropout probability has to be between 0 and 1"),
        ({"add_cross_attention": True}, "attends to another model"),
    ],
    ids=lambda given: given if isinstance(given, str) else next(iter(given)),
)
def test_a_configuration_that_is_none_is_one_line(
    folder: Path, edits: dict[str, object], says: str
) -> None:
    edit_config(folder, **edits)
    with pytest.raises(NasError, match=says) as raised:
        load_teacher(str(folder), TASK, seed=0)
    assert str(raised.value).isprintable()


def test_a_configuration_that_is_no_json_is_told_as_such(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(NasError, match=r"config.json cannot be read: .*not a valid JSON"):
        load_teacher(str(folder), TASK, seed=0)


def test_classes_are_named_in_the_heads_order_whatever_that_of_the_file(folder: Path) -> None:
    edit_config(folder, id2label={"2": "dog", "0": "fish", "1": "cat"})
    head = head_of(AutoConfig.from_pretrained(folder))
    assert head == Head(CLASSIFICATION, ("fish", "cat", "dog"))


def test_what_is_not_computed_by_is_left_behind(folder: Path) -> None:
    """An old configuration may ask for tuples, and for much else."""
    expected = BertForSequenceClassification.from_pretrained(folder).eval()(IDS).logits
    edit_config(folder, return_dict=False, chunk_size_feed_forward="none", output_attentions=True)
    edit_config(folder, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.2)
    teacher = load_teacher(str(folder), TASK, seed=0)
    torch.testing.assert_close(teacher.model(IDS).logits, expected[:, [1, 2, 0]])
    assert teacher.model(IDS).attentions is None
    assert teacher.model.config.hidden_dropout_prob == 0.3
    assert teacher.model.config.attention_probs_dropout_prob == 0.2


def test_a_classifier_of_another_type_is_begun_anew_for_a_regression(tmp_path: Path) -> None:
    roberta = RobertaConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, problem_type="single_label_classification",
    )  # fmt: skip
    RobertaForSequenceClassification(roberta).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    stars = Task("stars", REGRESSION, (), "pearson_spearman")
    teacher = load_teacher(str(tmp_path), stars, seed=0, new_head=True)
    assert teacher.model(IDS).logits.shape == (1, 1)
    assert teacher.model.config.problem_type == "regression"


def test_the_outline_is_that_of_the_loaded_teacher(folder: Path) -> None:
    teacher = load_teacher(str(folder), TASK, seed=0)
    architecture, shape = outline(str(folder), 3)
    counted = architecture.parameters(shape)
    assert counted == sum(parameter.numel() for parameter in teacher.model.parameters())


# ---- whether a ready head knows the task ---------------------------------------------------------


def said(
    labels: np.ndarray, order: tuple[int, ...], right: float, rng: np.random.Generator
) -> np.ndarray:
    """Logits of a head whose output i stands for class order[i], right so often."""
    classes = len(order)
    answers = np.where(
        rng.random(len(labels)) < right, labels, rng.integers(0, classes, len(labels))
    )
    outputs = np.argsort(order)[answers]
    return np.eye(classes)[outputs]


def task_of(classes: int) -> Task:
    names = tuple(f"class{number}" for number in range(classes))
    return Task("many", CLASSIFICATION, names, "accuracy")


@settings(max_examples=40)
@given(
    classes=st.integers(2, 12),
    right=st.floats(0.5, 1.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_head_in_another_order_is_told_with_its_order(
    classes: int, right: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels, order = rng.integers(0, classes, 600), tuple(rng.permutation(classes).tolist())
    why = doubt(task_of(classes), said(labels, order, right, rng), labels)
    if order == tuple(range(classes)):
        assert why is None
    elif sum(a != b for a, b in enumerate(order)) > classes / 2:
        assert why is not None
        assert f"--labels '{','.join(f'class{one}' for one in order)}'" in why


@given(classes=st.integers(2, 20), seed=st.integers(0, 2**32 - 1))
def test_a_head_that_guesses_is_no_better_than_chance(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(500) < 0.7, 0, rng.integers(0, classes, 500))
    why = doubt(task_of(classes), np.eye(classes)[np.zeros(500, int)], labels)
    assert why is not None
    assert "no better than chance" in why


def test_a_head_that_is_better_than_its_majority_class_alone_is_let_pass() -> None:
    """It finds half of a rare class, at an accuracy below that of never naming it."""
    labels = np.array([0] * 950 + [1] * 50)
    predicted = np.array([0] * 880 + [1] * 70 + [0] * 25 + [1] * 25)
    assert (predicted == labels).mean() < 0.95
    assert doubt(task_of(2), np.eye(2)[predicted], labels) is None


def test_of_ten_classes_a_few_right_answers_are_more_than_chance() -> None:
    """Of two classes the same correlation on as many examples is chance."""
    labels = np.arange(60) % 10
    predicted = np.where(np.arange(60) < 10, labels, (labels * 3 + np.arange(60) // 10 + 1) % 10)
    assert 0.1 < compute("matthews", predicted, labels) < 0.25
    assert doubt(task_of(10), np.eye(10)[predicted], labels) is None
    halves = np.arange(60) % 2
    predicted = np.where(np.arange(60) < 36, halves, 1 - halves)
    assert "no better than chance" in str(doubt(task_of(2), np.eye(2)[predicted], halves))


def test_examples_of_one_class_say_nothing_against_a_head() -> None:
    labels = np.zeros(20, int)
    assert doubt(task_of(2), np.eye(2)[labels], labels) is None


def test_values_that_have_nothing_in_common_with_the_labels_are_told() -> None:
    rng = np.random.default_rng(0)
    task, labels = Task("stars", REGRESSION, (), "pearson_spearman"), rng.normal(size=300)
    assert doubt(task, (labels + rng.normal(size=300))[:, None], labels) is None
    for logits in (-labels, rng.normal(size=300)):
        assert "no better than chance" in str(doubt(task, logits[:, None], labels))


def data_for(task: Task, labels: list[int], pair: bool = False) -> TaskData:
    texts = tuple("a b a b" if label % 2 else "b a" for label in labels)
    examples = Examples(texts, texts if pair else None, np.array(labels))
    return TaskData(task, examples, examples, examples)


def test_a_head_without_names_takes_those_that_are_given(tmp_path: Path) -> None:
    model = BertForSequenceClassification(config(num_labels=3)).eval()
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    given_names = ("fish", "cat", "dog")
    teacher = load_teacher(str(tmp_path), TASK, seed=0, labels=given_names)
    with torch.no_grad():
        torch.testing.assert_close(teacher.model(IDS).logits, model(IDS).logits[:, [1, 2, 0]])
    assert teacher.model.config.id2label == {0: "cat", 1: "dog", 2: "fish"}


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (("fish", "cat"), "labels: 2 names were given (cat, fish), and teacher"),
        (("fish", "cat", "cat"), "labels: a name is given twice (fish, cat, cat)"),
        (("fish", "cat", "cow"), "predicts cat, cow, fish, the data's labels are cat, dog, fish"),
    ],
)
def test_names_that_are_not_the_heads(names: tuple[str, ...], complaint: str, folder: Path) -> None:
    with pytest.raises(NasError, match=re.escape(complaint)):
        load_teacher(str(folder), TASK, seed=0, labels=names)


def test_names_for_a_head_that_is_not_there(tmp_path: Path) -> None:
    BertModel(config()).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(NasError, match="has no head"):
        load_teacher(str(tmp_path), TASK, seed=0, labels=TASK.label_names)


# ---- whether a tokenizer is made for its model ---------------------------------------------------


def inspected(folder: Path, *, pair: bool = False) -> str:
    """What is said of the teacher in a folder."""
    task = Task("animals", CLASSIFICATION, TASK.label_names, "accuracy", pair)
    try:
        inspect_teacher(str(folder), task, max_length=16)
        teacher = load_teacher(str(folder), task, seed=0)
        check_reading(str(folder), teacher, data_for(task, [0, 1, 2] * 4, pair), 16)
    except NasError as error:
        return str(error)
    return ""


def test_a_sound_teacher_reads_texts_and_pairs(folder: Path) -> None:
    assert inspected(folder) == inspected(folder, pair=True) == ""


def test_a_tokenizer_with_more_pieces_than_the_table_has_rows(folder: Path) -> None:
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    tokenizer.add_tokens(["c", "d"])
    tokenizer.save_pretrained(folder)
    assert "its tokenizer has 9 pieces, its table of words 8 rows; resize it" in inspected(folder)


def test_one_segment_does_not_suffice_for_pairs(tmp_path: Path) -> None:
    names = {0: "fish", 1: "cat", 2: "dog"}
    BertForSequenceClassification(config(id2label=names, type_vocab_size=1)).save_pretrained(
        tmp_path
    )
    save_tokenizer(tmp_path)
    assert inspected(tmp_path) == ""
    assert "its table of segments has 1 row" in inspected(tmp_path, pair=True)


def test_a_tokenizer_without_padding(folder: Path) -> None:
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    assert "no padding token" in inspected(folder)


def test_positions_of_another_kind_are_refused(tmp_path: Path) -> None:
    options = {"id2label": {0: "fish", 1: "cat", 2: "dog"}}
    relative = config(position_embedding_type="relative_key", **options)
    BertForSequenceClassification(relative).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    assert "position embeddings of type 'relative_key'" in inspected(tmp_path)


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    """Of which transformers makes one that knows special tokens alone."""
    names = {0: "fish", 1: "cat", 2: "dog"}
    BertForSequenceClassification(config(id2label=names)).save_pretrained(tmp_path)
    assert "neither tokenizer.json nor a vocabulary stands beside it" in inspected(tmp_path)
