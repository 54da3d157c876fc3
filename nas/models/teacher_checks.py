"""Whether a teacher reads and predicts what the data hold, found out by running it."""

from __future__ import annotations

import numpy as np

from nas.data.task_data import TaskData
from nas.data.tokenization import encode
from nas.models.teacher import FINETUNE_FIRST, Teacher
from nas.tasks.chance import doubt
from supernet.errors import NasError

_LONGEST = 8
"""Of a split's examples, those that a teacher reads in its check."""


def check_head(source: str, teacher: Teacher, data: TaskData, max_length: int) -> None:
    """Refuse a ready head that predicts what the data's labels do not say.

    Raises:
        NasError: predictions no better than chance, or far better were its classes in another
            order.
    """
    logits = teacher.predict(encode(data.validation, teacher.tokenizer, max_length))
    why = doubt(data.task, logits, data.labels("validation"))
    if why is not None:
        raise NasError(f"teacher {source} does not know this task: {why}; or else {FINETUNE_FIRST}")


def check_reading(source: str, teacher: Teacher, data: TaskData, max_length: int) -> None:
    """Refuse a tokenizer that is not made for its model: the longest texts are read with both.

    Raises:
        NasError: no padding token, more pieces or segments than the model has rows for, or
            predictions that are not finite.
    """
    tokenizer, config = teacher.tokenizer, teacher.model.config
    pieces = len(tokenizer)
    if pieces > config.vocab_size:
        raise NasError(
            f"teacher {source}: its tokenizer has {pieces} pieces, its table of words "
            f"{config.vocab_size} rows; resize it and save it again: "
            "model.resize_token_embeddings(len(tokenizer))"
        )
    if tokenizer.pad_token_id is None:
        raise NasError(
            f"teacher {source}: its tokenizer has no padding token; name one and save it again: "
            "tokenizer.pad_token = '[PAD]', or another of its pieces"
        )
    for examples in data.splits.values():
        lengths = [
            len(a) + (len(examples.text_b[row]) if examples.text_b else 0)
            for row, a in enumerate(examples.text_a)
        ]
        longest = sorted(range(len(examples)), key=lambda row: -lengths[row])[:_LONGEST]
        encoded = encode(examples.take(longest), tokenizer, max_length)
        segments = max((max(row) for row in encoded.columns.get("token_type_ids", [])), default=0)
        if segments >= config.type_vocab_size:
            raise NasError(
                f"teacher {source}: its tokenizer tells {segments + 1} segments apart, its table "
                f"of segments has {config.type_vocab_size} row: it was not made for pairs of texts"
            )
        if not np.isfinite(teacher.predict(encoded)).all():
            raise NasError(f"teacher {source} predicts numbers that are not finite")
