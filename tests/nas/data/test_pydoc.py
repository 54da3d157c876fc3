"""The embedded data: what is kept of docstrings, and that it is built once and alike."""

import logging
import subprocess
import sys

import pytest

from nas.data import pydoc
from supernet.errors import NasError

SMALL = ("networkx", "sklearn")
"""Two libraries read in some two seconds; the others differ in size alone."""

MODULE = '''
"""Reads the values of a table and writes them to a file.

Not the first paragraph.
"""
raise SystemExit("never imported")

class Table:
    """Hold the rows of a table in the order
    in which they are given.

    Args:
        rows: the rows.
    """

    async def read(self):
        """Read at most a few of the rows from pytorch, as a list.
        Args:
            count: how many of them.
        """
        if True:
            def inner():
                r"""Too short."""
'''


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def corpus(cache):
    return pydoc.load_corpus(cache, libraries=SMALL)


def test_paragraphs_are_read_and_never_imported(tmp_path):
    (tmp_path / "module.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "binary.py").write_bytes(b"\x00\xff")
    for folder in ("tests", "deep"):
        (tmp_path / folder).mkdir()
    (tmp_path / "tests" / "of.py").write_text('"""Tests of the table and of what it reads."""\n')
    (tmp_path / "deep" / "test_of.py").write_text('"""Tests of the table and of all it reads."""')
    assert pydoc.read_paragraphs(tmp_path) == {
        "Reads the values of a table and writes them to a file.",
        "Hold the rows of a table in the order in which they are given.",
        "Read at most a few of the rows from library, as a list.",
    }


@pytest.mark.parametrize(
    ("docstring", "paragraph"),
    [
        ("One\n    two.\n\n    Three.", "One two."),
        ("\n\n  First here.\n  Parameters:\n   x", "First here."),
        ("Sum up.\n    :param x: a value", "Sum up."),
        ("Title\n    =====\n    Text.", "Title"),
        ("Args:\n    x: a value", ""),
    ],
)
def test_first_paragraph_ends_at_blank_line_or_section(docstring, paragraph):
    assert pydoc.first_paragraph(docstring) == paragraph


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("a `torch.Tensor` of PyTorch", "a `library.Tensor` of library"),
        ("see scikit-learn, sklearn and np", "see library, library and np"),
        ("torch_dtype or nx.Graph or plt.show", "library_dtype or library.Graph or library.show"),
        ("a torchlight, update and 2pdf stay", "a torchlight, update and 2pdf stay"),
        ("Hugging Face's 🤗", "library's 🤗"),
    ],
)
def test_names_are_masked_as_whole_words(text, masked):
    assert pydoc.mask_names(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "Too short, this one is.",
        "Return the value of the " + "very " * 200 + "long text that is given.",
        "Renvoie la valeur qui est donnée à la fonction de la classe.",
        "x = f(a, b); y = g(x)[1:2, 3:4] + {5: 6, 7: 8} is the in of 9 10 11",
        "Compute matrix product, accumulate sums, normalise rows, columns.",
    ],
)
def test_what_is_not_english_prose_is_left_out(text):
    assert not pydoc.is_english(text)


def test_corpus_is_distinct_masked_and_sorted(corpus):
    assert set(corpus["label"]) == set(SMALL)
    assert corpus["label"].value_counts().min() > 800
    assert corpus["text"].is_unique
    assert corpus["text"].map(pydoc.is_english).all()
    assert not corpus["text"].str.contains(r"\b(?:networkx|sklearn|scikit)\b", case=False).any()
    assert list(corpus["text"]) == sorted(corpus["text"])


def test_paragraph_of_two_libraries_is_dropped():
    both, own = "Return the value.", "Return a graph."
    rows = pydoc._distinct({"scipy": {both}, "networkx": {"return the VALUE", own}})
    assert rows == [(own, "networkx")]


def test_corpus_is_built_alike_and_then_read(corpus, cache, tmp_path):
    calls = []
    again = pydoc.load_corpus(
        tmp_path, libraries=SMALL[::-1], progress=lambda *call: calls.append(call)
    )
    assert again.equals(corpus)
    assert calls == [("networkx", 0, 2), ("sklearn", 1, 2)]
    read = pydoc.load_corpus(cache, libraries=SMALL, progress=lambda *call: calls.append(call))
    assert read.equals(corpus)
    assert len(calls) == 2
    assert [path.suffix for path in cache.iterdir() if path.suffix != ".lock"] == [".parquet"]


def test_libraries_are_not_imported(cache, corpus):
    script = (
        "import sys; from pathlib import Path; from nas.data.pydoc import load_corpus; "
        f"load_corpus(Path({str(cache)!r}) / 'new', libraries={SMALL!r}); "
        "sys.exit(any(name in sys.modules for name in ('networkx', 'sklearn', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_corrupt_cache_is_built_again(corpus, cache, caplog):
    (path,) = cache.glob("*.parquet")
    path.write_bytes(path.read_bytes()[:1000])
    with caplog.at_level(logging.WARNING):
        assert pydoc.load_corpus(cache, libraries=SMALL).equals(corpus)
    assert "cannot be read" in caplog.text
    assert pydoc.load_corpus(cache, libraries=SMALL).equals(corpus)


def test_cache_that_cannot_be_written_is_a_warning(corpus, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        built = pydoc.load_corpus(tmp_path / "file" / "cache", libraries=SMALL)
    assert built.equals(corpus)
    assert "cannot be written" in caplog.text


def test_task_is_balanced_and_seeded(corpus):
    task = pydoc.sample_task(corpus, per_library=100, seed=1)
    assert task["label"].value_counts().to_dict() == dict.fromkeys(SMALL, 100)
    assert task["text"].is_unique
    assert task.equals(pydoc.sample_task(corpus, per_library=100, seed=1))
    assert not task.equals(pydoc.sample_task(corpus, per_library=100, seed=2))


@pytest.mark.parametrize(
    ("libraries", "message"),
    [
        (("networkx", "left-pad"), "no library 'left-pad'; accepted: matplotlib"),
        (("scipy",), "two"),
    ],
)
def test_bad_libraries_are_named(libraries, message, tmp_path):
    with pytest.raises(NasError, match=message):
        pydoc.load_corpus(tmp_path, libraries=libraries)
