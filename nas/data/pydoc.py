"""pydoc: the embedded data, built on this machine from the installed libraries' docstrings.

The task: which library does this paragraph come from? The text is the first paragraph of every
module's, class's and function's docstring in eight libraries that this package needs anyway,
read with :mod:`ast`, never imported. Kept are English paragraphs of 40 to 600 characters; one
that two libraries share is dropped from both, and test suites are left out.

Names of the libraries are masked with the word "library": they stand in 7% of the paragraphs,
and a model that spots them has learned nothing worth distilling. Masking keeps those paragraphs'
text, which dropping them would lose. TF-IDF with logistic regression, on 80/20 splits of the
balanced task (mean of 3 seeds, each figure good to about 1%), is right on 76.3% with the names,
76.1% masked and 75.5% with those paragraphs dropped, so the task rests on the rest of the text.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock

from latency.atomic import replacing
from nas.settings import cache_folder
from supernet.errors import NasError

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[str, int, int], None]
"""Called with the library to be read next, the count read so far, and the count of all."""

LIBRARIES = MappingProxyType(
    {
        "matplotlib": "matplotlib",
        "networkx": "networkx",
        "pandas": "pandas",
        "scipy": "scipy",
        "sklearn": "scikit-learn",
        "sympy": "sympy",
        "torch": "torch",
        "transformers": "transformers",
    }
)
"""Import name of each library, which is its label, to the distribution that carries it."""

PER_LIBRARY = 1500

_RULES = 1  # to be raised with any change of what is kept, so that no stale cache is read
_SHORTEST, _LONGEST, _FEWEST_WORDS = 40, 600, 7
_WORD = re.compile(r"[A-Za-z]+")
_COMMON_WORD = re.compile(
    r"\b(?:an?|and|are|as|at|be|by|for|from|given|if|in|into|is|it|of|on|or|return(?:s|ed)?|that"
    r"|the|this|to|used|when|which|with)\b",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"(?<![a-z])(?:py)?(?:torch|hugging[ -_]?face|transformers|scikit[-_ ]?learn|sklearn|pandas|pd"
    r"|scipy|matplotlib|mpl|pyplot|plt|sympy|networkx|nx)(?![a-z])",
    re.IGNORECASE,
)
_SECTION = re.compile(
    r"\s*(?:[:@]\w+|[-=~^]{3}|>>>|```"
    r"|(?:args?|arguments|attributes|examples?|inputs?|notes?|parameters?|params|raises|returns?"
    r"|usage|yields):)",
    re.IGNORECASE,
)
_TEST_PATH = re.compile(r"tests?|testing|conftest\.py|test_.*|.*_test\.py")

_log = logging.getLogger(__name__)


def load_corpus(
    cache_dir: Path | None = None,
    *,
    libraries: Sequence[str] = tuple(LIBRARIES),
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Every paragraph of the installed libraries: built in 25 to 50 s, then read from the cache.

    The result depends on the libraries' versions alone.

    Args:
        cache_dir: where the Parquet file lies, one for each set of versions; default
            :func:`nas.settings.cache_folder`. A cache that cannot be written costs a warning only.
        libraries: keys of :data:`LIBRARIES`; those not installed are passed over.
        progress: called before each library, where the cache does not answer.

    Returns:
        columns ``text`` and ``label`` (the library), distinct and sorted by both.

    Raises:
        NasError: an unknown library, or fewer than two installed.
    """
    import pandas as pd

    versions = _installed_versions(libraries)
    path = (cache_dir or cache_folder()) / f"pydoc-{_key(versions)}.parquet"
    with ExitStack() as turn:
        with suppress(OSError):  # without a turn, several processes may build the same
            path.parent.mkdir(parents=True, exist_ok=True)
            turn.enter_context(FileLock(f"{path}.lock"))
        try:
            return pd.read_parquet(path)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            _log.warning("pydoc cache %s cannot be read, building it again: %s", path, error)
        paragraphs = {}
        for done, library in enumerate(versions):
            if progress is not None:
                progress(library, done, len(versions))
            with _no_collection():
                paragraphs[library] = read_paragraphs(_root(library))
        corpus = pd.DataFrame(_distinct(paragraphs), columns=["text", "label"])
        try:
            with replacing(path) as temporary:
                corpus.to_parquet(temporary, index=False)
        except OSError as error:
            _log.warning("pydoc cache %s cannot be written, going on without: %s", path, error)
    return corpus


def sample_task(corpus: pd.DataFrame, *, per_library: int = PER_LIBRARY, seed: int) -> pd.DataFrame:
    """A balanced task: at most ``per_library`` paragraphs of each library, drawn by ``seed``."""
    rng = np.random.default_rng(seed)
    rows = [
        np.sort(rng.permutation(group)[:per_library])
        for _, group in sorted(corpus.groupby("label").indices.items())
    ]
    return corpus.iloc[np.concatenate(rows)].reset_index(drop=True)


def read_paragraphs(root: Path) -> set[str]:
    """The distinct first paragraphs, masked, of all docstrings below a package's folder."""
    paragraphs = set()
    for path in sorted(root.rglob("*.py")):
        if any(_TEST_PATH.fullmatch(part) for part in path.relative_to(root).parts):
            continue
        for docstring in _docstrings(path):
            paragraph = mask_names(first_paragraph(docstring))
            if is_english(paragraph):
                paragraphs.add(paragraph)
    return paragraphs


def first_paragraph(docstring: str) -> str:
    """A docstring's text up to the first blank line or section, on one line."""
    lines: list[str] = []
    for line in inspect.cleandoc(docstring).strip().splitlines():
        if not line.strip() or _SECTION.match(line):
            break
        lines.append(line)
    return " ".join(" ".join(lines).split())


def mask_names(paragraph: str) -> str:
    """The paragraph with each name of a library of the task replaced by "library"."""
    return _NAME.sub("library", paragraph)


def is_english(paragraph: str) -> bool:
    """Whether it reads as English prose: ASCII, long enough, mostly letters, common words."""
    return (
        paragraph.isascii()
        and _SHORTEST <= len(paragraph) <= _LONGEST
        and len(_WORD.findall(paragraph)) >= _FEWEST_WORDS
        and sum(letter.isalpha() or letter == " " for letter in paragraph) > 0.8 * len(paragraph)
        and len(_COMMON_WORD.findall(paragraph)) >= 2
    )


@contextmanager
def _no_collection() -> Iterator[None]:
    """Holds back the collection of cycles, of which syntax trees have none.

    Their millions of nodes set it off again and again, and each time it goes through all that
    torch and transformers have loaded: half of the time that reading takes.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _docstrings(path: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        try:
            stack: list[ast.AST] = [ast.parse(path.read_bytes())]
        except (SyntaxError, ValueError, RecursionError, OSError):
            return  # a template or a file for another Python: not text to learn from
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring:
                yield docstring
        for block in ("body", "orelse", "finalbody"):
            stack.extend(getattr(node, block, ()))


def _distinct(paragraphs: dict[str, set[str]]) -> list[tuple[str, str]]:
    """(text, library), one for each wording; those of two libraries dropped."""
    owners: dict[str, set[str]] = {}
    texts: dict[str, str] = {}
    for library, own in paragraphs.items():
        for text in sorted(own):
            wording = " ".join(_WORD.findall(text.lower()))
            owners.setdefault(wording, set()).add(library)
            texts.setdefault(wording, text)
    return sorted(
        (texts[wording], next(iter(found))) for wording, found in owners.items() if len(found) == 1
    )


def _installed_versions(libraries: Sequence[str]) -> dict[str, str]:
    versions = {}
    for library in sorted(libraries):
        if library not in LIBRARIES:
            raise NasError(f"pydoc: no library {library!r}; accepted: {', '.join(LIBRARIES)}")
        if importlib.util.find_spec(library) is not None:
            versions[library] = importlib.metadata.version(LIBRARIES[library])
    if len(versions) < 2:
        raise NasError(
            f"pydoc needs two of {', '.join(libraries)} installed, found {list(versions)}"
        )
    return versions


def _key(versions: dict[str, str]) -> str:
    text = json.dumps([_RULES, versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _root(library: str) -> Path:
    spec = importlib.util.find_spec(library)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])
