"""From texts to token ids: unpadded rows, which the collator pads to the longest of a batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from nas.data.task_data import Examples
from nas.tasks.units import Units
from supernet.errors import NasError, error_line

_MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True, eq=False)
class EncodedExamples(torch.utils.data.Dataset[dict[str, Any]]):
    """Tokenized examples; a row is a dict of lists, without padding.

    Attributes:
        columns: ``input_ids``, ``attention_mask`` and, where the tokenizer gives them,
            ``token_type_ids``: a list of ints for each example.
        labels: an int (class) or a float (regression) for each example; None without labels.
    """

    columns: dict[str, list[list[int]]]
    labels: list[int] | list[float] | None

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    def __getitem__(self, row: int) -> dict[str, Any]:
        item: dict[str, Any] = {name: values[row] for name, values in self.columns.items()}
        if self.labels is not None:
            item["labels"] = self.labels[row]
        return item

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example, special tokens included: to batch like with like."""
        return [len(row) for row in self.columns["input_ids"]]

    def take(self, rows: Iterable[int]) -> EncodedExamples:
        """The examples at ``rows``, in their order."""
        rows = list(rows)
        columns = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        labels = None if self.labels is None else [self.labels[row] for row in rows]
        return EncodedExamples(columns, cast("list[int] | list[float] | None", labels))

    def followed_by(self, others: EncodedExamples) -> EncodedExamples:
        """These, then others of the same task."""
        columns = {name: values + others.columns[name] for name, values in self.columns.items()}
        unlabelled = self.labels is None or others.labels is None
        labels = None if unlabelled else [*(self.labels or ()), *(others.labels or ())]
        return EncodedExamples(columns, cast("list[int] | list[float] | None", labels))


def load_tokenizer(place: str | Path, subject: str, **options: Any) -> PreTrainedTokenizerBase:
    """A tokenizer that knows words: one is made of a configuration alone where files are absent.

    Args:
        place: a folder, or a hub id.
        subject: whose it is, for messages.
        options: of ``AutoTokenizer.from_pretrained``.

    Raises:
        NasError: it does not load, or knows special tokens alone.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place, **options)
    except Exception as error:  # of several kinds, from two libraries
        raise NasError(f"{subject} has no tokenizer that loads: {error_line(error)}") from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise NasError(
            f"{subject} has no tokenizer: neither tokenizer.json nor a vocabulary stands beside it"
        )
    return tokenizer


def encode(
    examples: Examples,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    units: Units = Units(),
) -> EncodedExamples:
    """Tokenize texts or text pairs; of a pair, the longer text is cut first.

    Args:
        examples: what to encode; labels come along where there are any.
        tokenizer: a Hugging Face tokenizer. A padding or truncation that its file fixes is
            overruled.
        max_length: tokens kept of an example, special tokens included.
        units: of a regression's values, which become what is learnt.

    Raises:
        NasError: a ``max_length`` that leaves no room for text.
    """
    special = tokenizer.num_special_tokens_to_add(pair=examples.text_b is not None)
    if max_length <= special:
        raise NasError(
            f"max_length must be above the {special} special tokens of an example, not {max_length}"
        )
    labels = None if examples.labels is None else examples.labels.tolist()
    if labels is not None and units != Units():
        labels = units.learnt(labels).tolist()
    if not len(examples):
        return EncodedExamples({"input_ids": [], "attention_mask": []}, labels)
    encoding = tokenizer(
        list(examples.text_a),
        None if examples.text_b is None else list(examples.text_b),
        max_length=max_length,
        truncation=True,
        padding=False,
    )
    return EncodedExamples(
        {name: encoding[name] for name in _MODEL_INPUTS if name in encoding}, labels
    )
