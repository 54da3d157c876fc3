"""Training the words of the data alone: the same steps as with the whole table."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForSequenceClassification

from supernet.used_words import UsedWords, used_words

VOCABULARY, PAD = 50, 0
TEXTS = [[2, 7, 9, 3], [2, 9, 9, 31, 3], [2, 44, 3]]
UNSEEN = [[2, 20, 21, 3]]


@pytest.fixture
def model() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, pad_token_id=PAD, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.normal_()  # that of padding too
    return model


def table(model: BertForSequenceClassification) -> Tensor:
    return model.bert.embeddings.word_embeddings.weight.detach().clone()


def padded(texts: list[list[int]]) -> dict[str, Tensor]:
    ids = nn.utils.rnn.pad_sequence([torch.tensor(text) for text in texts], batch_first=True)
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}


def train(model: BertForSequenceClassification, steps: int = 3) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(**padded(TEXTS)).logits, torch.tensor([0, 1, 0])).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()


def test_the_words_of_the_data_learn_as_in_the_whole_table(
    model: BertForSequenceClassification,
) -> None:
    whole, before = deepcopy(model), table(model)
    train(whole)
    with used_words(model, TEXTS):
        assert sum(p.numel() for p in model.parameters()) < sum(
            p.numel() for p in whole.parameters()
        )
        train(model)
        with torch.no_grad():
            inside = model(**padded(UNSEEN)).logits
    for name, weights in model.state_dict().items():
        torch.testing.assert_close(weights, whole.state_dict()[name], msg=name)
    with torch.no_grad():
        torch.testing.assert_close(inside, whole(**padded(UNSEEN)).logits)
    changed = (table(model) != before).any(dim=1).nonzero().flatten().tolist()
    assert changed == sorted({word for text in TEXTS for word in text})


def test_the_table_is_back_in_its_place_after_an_error(
    model: BertForSequenceClassification,
) -> None:
    embeddings, ids = model.bert.embeddings, torch.tensor(TEXTS[0])
    original, learnt = embeddings.word_embeddings, []

    def failing() -> None:
        with used_words(model, TEXTS):
            assert isinstance(embeddings.word_embeddings, UsedWords)
            train(model)
            learnt.append(embeddings.word_embeddings(ids))
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        failing()
    assert embeddings.word_embeddings is original
    torch.testing.assert_close(original(ids), learnt[0])


def test_a_table_that_is_not_trained_is_left_alone(model: BertForSequenceClassification) -> None:
    embeddings = model.bert.embeddings
    embeddings.word_embeddings.requires_grad_(False)
    with used_words(model, TEXTS):
        assert type(embeddings.word_embeddings) is nn.Embedding
