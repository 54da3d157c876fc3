import numpy as np
import pytest
import torch
from transformers import BertTokenizer

from supernet.distill.augment import WordNeighbours

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "red",
    "blue",
    "cat",
    "dog",
    "the",
    "##s",
    "7",
]


@pytest.fixture
def tokenizer(tmp_path: object) -> BertTokenizer:
    return BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)})


@pytest.fixture
def neighbours(tokenizer: BertTokenizer) -> WordNeighbours:
    """Colours lie near colours, animals near animals."""
    embeddings = torch.eye(12)
    embeddings[6] = embeddings[5] + 0.1 * embeddings[6]
    embeddings[8] = embeddings[7] + 0.1 * embeddings[8]
    return WordNeighbours.from_embeddings(embeddings, tokenizer, [[2, 5, 7, 8, 9, 11, 3]], k=1)


def replaced(
    neighbours: WordNeighbours, ids: list[list[int]], probability: float
) -> list[list[int]]:
    rows = torch.ones(len(ids), dtype=torch.bool)
    rng = np.random.default_rng(0)
    return neighbours.replace(torch.tensor(ids), rows, probability, rng).tolist()


def test_words_become_their_nearest_neighbours(neighbours: WordNeighbours) -> None:
    assert replaced(neighbours, [[2, 5, 7, 3]], 1.0) == [[2, 6, 8, 3]]


def test_what_is_no_whole_content_word_stays(neighbours: WordNeighbours) -> None:
    """Specials, padding, stop words, digits, split words, and words that never occurred."""
    for ids in ([2, 9, 11, 3, 0], [2, 7, 10, 3, 0], [2, 6, 1, 4, 3]):
        assert replaced(neighbours, [ids], 1.0) == [ids]


def test_only_chosen_rows_change(neighbours: WordNeighbours) -> None:
    ids = torch.tensor([[5, 5], [5, 5]])
    rows = torch.tensor([False, True])
    changed = neighbours.replace(ids, rows, 1.0, np.random.default_rng(0))
    assert changed.tolist() == [[5, 5], [6, 6]]


def test_words_change_with_the_probability_asked(neighbours: WordNeighbours) -> None:
    """10,000 words at 0.4: the share lies within five standard deviations."""
    share = (np.array(replaced(neighbours, [[5] * 100] * 100, 0.4)) == 6).mean()
    assert abs(share - 0.4) < 5 * np.sqrt(0.4 * 0.6 / 10_000)


@pytest.mark.parametrize("mark", ["\u0120", "\u2581"])
def test_vocabularies_that_mark_beginnings(mark: str) -> None:
    """Byte-level BPE (RoBERTa) and SentencePiece (XLM-R): whole words, no fragments."""
    pieces = [f"{mark}film", f"{mark}movie", f"{mark}the", "ing", f"{mark}bad", "."]
    tokenizer = MarkedTokenizer(pieces)
    angles = torch.tensor([0.0, 0.1, 1.0, 0.05, 2.0, 3.0])
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1)
    words = WordNeighbours.from_embeddings(embeddings, tokenizer, [range(6)], k=1)  # type: ignore[arg-type]
    ids = torch.tensor([[0, 5], [0, 3], [2, 4]])  # "film.", "filming", "the bad"
    replaced = words.replace(ids, torch.ones(3, dtype=torch.bool), 1.0, np.random.default_rng(0))
    assert replaced.tolist() == [[1, 5], [0, 3], [2, 2]]


class MarkedTokenizer:
    all_special_ids: tuple[int, ...] = ()

    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self.pieces[index] for index in ids]
