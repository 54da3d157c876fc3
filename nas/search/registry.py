"""The searchers that users choose by name: ``algorithm`` in a recipe, or ``--algorithm``.

To add one, put a :class:`nas.search.searcher.Searcher` into a file under ``searchers/`` and name it
here. Nothing is imported before a searcher is made, as settings and help texts read this list.
"""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from nas.search.goals import Goals
    from nas.search.pool import Pool
    from nas.search.searcher import Searcher
    from nas.search.settings import SearchSettings
    from supernet.space import SearchSpace


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


def new_searcher(
    space: SearchSpace, goals: Goals, pool: Pool, settings: SearchSettings
) -> Searcher:
    """The searcher that ``settings.algorithm`` names.

    Args:
        pool: of ``space``, with the usage of the goals' limits.

    Raises:
        NasError: the searcher does not suit the space or the goals, or needs a package that is not
            installed.
    """
    kind: type[Searcher] = resolve_name(
        f"nas.search.searchers.{SEARCHERS[settings.algorithm].place}"
    )
    return kind(space, goals, pool, settings)
