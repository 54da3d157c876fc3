import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertForMaskedLM, BertTokenizer, PreTrainedTokenizerBase

from supernet.distill.augment import WORD, MaskedModel, Neighbours, copies_of
from supernet.distill.augmentation import Augmentation
from supernet.errors import NasError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "cat", "dog", "the"]
WORDS += ["##s", "7", ".", "un", "##believ", "##able"]
EVERY = Augmentation(copies=1, probability=1.0)


@pytest.fixture
def tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)})


@pytest.fixture
def neighbours(tokenizer: BertTokenizer) -> Neighbours:
    """Colours lie near colours, animals near animals."""
    embeddings = torch.eye(len(WORDS))
    embeddings[6] = embeddings[5] + 0.1 * embeddings[6]
    embeddings[8] = embeddings[7] + 0.1 * embeddings[8]
    return Neighbours(embeddings, tokenizer, k=1)


def copied(text: str, neighbours: Neighbours, settings: Augmentation = EVERY) -> list[str]:
    return list(copies_of(text, neighbours, settings, np.random.default_rng(0)))


def test_words_become_their_nearest_neighbours(neighbours: Neighbours) -> None:
    assert copied("a red cat.", neighbours) == ["a blue dog."]


def test_what_is_no_whole_content_word_stays(neighbours: Neighbours) -> None:
    """Stop words, digits, words of several pieces, and words that are not in the vocabulary."""
    for text in ("the 7", "cats unbelievable", "zebra!", ""):
        assert copied(text, neighbours) == [text]


def test_contractions_stay_whole(neighbours: Neighbours) -> None:
    for text in ("the cat's dog\u2019s", "red's"):
        assert copied(text, neighbours) == [text]


def test_a_capital_stays(neighbours: Neighbours) -> None:
    assert copied("Red cat", neighbours) == ["Blue dog"]


def test_words_change_with_the_probability_asked(neighbours: Neighbours) -> None:
    """10,000 words at 0.4: the share lies within five standard deviations."""
    settings = Augmentation(copies=100, probability=0.4)
    texts = " ".join(copied("red " * 100, neighbours, settings))
    share = texts.count("blue") / 10_000
    assert abs(share - 0.4) < 5 * np.sqrt(0.4 * 0.6 / 10_000)


@given(st.text(max_size=60), st.integers(0, 2**32))
def test_all_but_words_stays(text: str, seed: int) -> None:
    """Whatever the text, what lies between its words comes out as it went in."""

    def propose(_text: str, words: list[re.Match[str]]) -> list[list[str]]:
        return [["other"] for _ in words]

    (copy,) = copies_of(text, propose, EVERY, np.random.default_rng(seed))
    assert WORD.split(copy) == WORD.split(text)


@pytest.mark.parametrize("mark", ["\u0120", "\u2581"])
def test_vocabularies_that_mark_beginnings(mark: str) -> None:
    """Byte-level BPE (RoBERTa) and SentencePiece (XLM-R): whole words, no fragments."""
    tokenizer = MarkedTokenizer([f"{mark}film", f"{mark}movie", f"{mark}bad", "ing", "."])
    angles = torch.tensor([0.0, 0.1, 1.0, 0.05, 3.0])
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1)
    neighbours = Neighbours(embeddings, tokenizer, k=1)  # type: ignore[arg-type]
    assert copied("film, filming. film", neighbours) == ["movie, filming. movie"]


class MarkedTokenizer:
    all_special_ids: tuple[int, ...] = ()

    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self.pieces[index] for index in ids]

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        word = text.removeprefix(" ")
        whole = [i for i, piece in enumerate(self.pieces) if piece[1:] == word]
        return {"input_ids": whole or [0, 3]}


def masked_model(
    tokenizer: PreTrainedTokenizerBase, neighbours: Neighbours, k: int
) -> tuple[BertForMaskedLM, MaskedModel]:
    torch.manual_seed(0)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=8, initializer_range=1.0,
        )
    ).eval()  # fmt: skip
    return model, MaskedModel(model, tokenizer, k, others=neighbours, max_length=32)


def test_a_masked_model_proposes_what_it_finds_likeliest_in_context(
    tokenizer: BertTokenizer, neighbours: Neighbours
) -> None:
    model, propose = masked_model(tokenizer, neighbours, 2)
    text = "the cat . red"
    words = list(WORD.finditer(text))[1:]
    ids = torch.tensor([[2, 9, 7, 12, 5, 3]])
    whole = [i for i, word in enumerate(WORDS) if word.isalpha()]
    expected = []
    for place in (2, 4):
        masked = ids.clone()
        masked[0, place] = 4
        logits = model(masked, torch.ones_like(masked)).logits[0, place]
        others = [i for i in whole if i != ids[0, place]]
        expected.append([WORDS[i] for i in sorted(others, key=lambda i: -logits[i])[:2]])
    assert propose(text, words) == expected


def test_words_of_several_pieces_go_to_the_neighbours(
    tokenizer: BertTokenizer, neighbours: Neighbours
) -> None:
    _, propose = masked_model(tokenizer, neighbours, 2)
    text = "cats unbelievable"
    assert propose(text, list(WORD.finditer(text))) == [[], []]
    assert propose("7", []) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"copies": 0}, "copies"),
        ({"originals": 0}, "originals"),
        ({"probability": 2}, "probability"),
    ],
)
def test_bad_settings_are_named(options: dict[str, float], named: str) -> None:
    with pytest.raises(NasError, match=named):
        Augmentation(**options)  # type: ignore[arg-type]
