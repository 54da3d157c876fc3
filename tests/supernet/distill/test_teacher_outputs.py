"""What is kept of a teacher is what it computes."""

import torch
from transformers import BertForSequenceClassification

from supernet.distill.teacher_outputs import (
    ROWS,
    Compared,
    Numbered,
    TeacherOutputs,
    bytes_kept,
    numbered,
)
from supernet.observe import observe
from tests.supernet.parity import Rows, collate

COMPARED = Compared((0, 2), (1,))


def test_kept_outputs_are_the_teachers_own(bert: BertForSequenceClassification) -> None:
    """To half precision, in another order and beside other texts than when they were computed."""
    data = Rows(150)
    done = []
    outputs = TeacherOutputs.read(bert, data, collate, COMPARED, lambda *at: done.append(at))
    assert done == [(64, 150), (128, 150), (150, 150)]
    batch = numbered(collate)([Numbered(data)[row] for row in (149, 3, 77, 12)])
    assert batch.pop(ROWS).tolist() == [149, 3, 77, 12]
    mask = batch["attention_mask"].bool()
    del batch["labels"]
    expected = COMPARED.of(observe(bert, batch))
    found = outputs(torch.tensor([149, 3, 77, 12]), mask.shape[1], torch.device("cpu"))
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=1e-4)
    for mine, theirs in zip(found.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(mine[mask], theirs[mask], atol=2e-3, rtol=2e-3)
    for mine, theirs in zip(found.attentions[0], expected.attentions[0], strict=True):
        mine, theirs = mine.transpose(1, 2)[mask], theirs.transpose(1, 2)[mask]
        torch.testing.assert_close(mine, theirs, atol=2e-3, rtol=2e-3)


def test_memory_is_known_beforehand(bert: BertForSequenceClassification) -> None:
    data = Rows(20)
    outputs = TeacherOutputs.read(bert, data, collate, COMPARED, lambda *_: None)
    tables = [*outputs.states, *(table for tables in outputs.attentions for table in tables)]
    assert sum(t.numel() * t.element_size() for t in tables) == bytes_kept(
        sum(data.lengths), 32, COMPARED
    )
