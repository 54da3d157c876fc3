"""The list of searchers is true, and is where every name comes from."""

from __future__ import annotations

from pkgutil import resolve_name

import pytest
from typer.testing import CliRunner

from nas.cli import app
from nas.search.registry import SEARCHERS
from nas.search.searcher import Searcher
from nas.search.settings import SearchSettings
from supernet.errors import NasError


@pytest.mark.parametrize("name", SEARCHERS)
def test_every_name_is_of_a_searcher(name):
    if name.startswith("optuna"):
        pytest.importorskip("optuna", reason="needs tailorbert[optuna]")
    assert issubclass(resolve_name(f"nas.search.searchers.{SEARCHERS[name].place}"), Searcher)


def test_an_unknown_name_is_refused_with_the_list():
    with pytest.raises(NasError, match=r"algorithm must be one of guided, .*, random, not 'luck'"):
        SearchSettings(algorithm="luck")


def test_the_help_names_every_searcher():
    told = CliRunner().invoke(app, ["search", "--help"], env={"COLUMNS": "400"}).output
    assert [name for name in SEARCHERS if name not in told] == []
