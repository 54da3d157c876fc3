"""The searchers that users choose by name: ``algorithm`` in a recipe, or ``--algorithm``.

To add one, put a :class:`nas.search.searcher.Searcher` into a file under ``searchers/`` and name it
here. Nothing is imported before a searcher is made, as settings and help texts read this list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Listed(NamedTuple):
    """A searcher in the list.

    Args:
        place: module under ``searchers/`` and class.
        is_baseline: published by others, for comparison; not meant for everyday use.
    """

    place: str
    is_baseline: bool = False


SEARCHERS: Mapping[str, Listed] = {
    "guided": Listed("guided:GuidedSearch"),
    "nsga2": Listed("nsga2:Nsga2"),
    "optuna-tpe": Listed("optuna_searcher:OptunaSearch"),
    "optuna-gp": Listed("optuna_searcher:OptunaSearch"),
    "optuna-nsga2": Listed("optuna_searcher:OptunaSearch"),
    "optuna-nsga3": Listed("optuna_searcher:OptunaSearch"),
    "optuna-cmaes": Listed("optuna_searcher:OptunaSearch"),
    "exhaustive": Listed("exhaustive:Exhaustive"),
    "evolution": Listed("evolution:RegularizedEvolution", is_baseline=True),
    "hat": Listed("hat:HatEvolution", is_baseline=True),
    "autotinybert-evolved": Listed("autotinybert:AutoTinyBertEvolution", is_baseline=True),
    "autotinybert-fast": Listed("autotinybert:AutoTinyBertFast", is_baseline=True),
    "random": Listed("random_search:RandomSearch", is_baseline=True),
}
