"""Searches recorded in an Optuna study, which outlives driver and workspace.

Any searcher's scores are recorded, also those of searchers that know nothing of Optuna.
optuna-dashboard opens the database. Proposals are never made from it, so that it holds no code:
Optuna's CMA-ES unpickles what it finds in a study.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from nas.search.evaluator import Failed, Outcome
from nas.search.goals import Goal, Goals
from nas.search.optuna_space import dimensions, distribution, quietly, suggested
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError
from supernet.space import SearchSpace

_ACCEPTED = "sqlite:///searches.db or postgresql+psycopg2://user:password@host/database"
_WAIT_S = 60
_LOCK = 0x7A110B  # any number that other users of a PostgreSQL database do not lock


class SearchStudy:
    """The scores of one supernet on one data set, as trials of a study.

    A study may hold several supernets and data sets, and several processes may write to it.

    Args:
        url: of a SQLite or PostgreSQL database, as SQLAlchemy writes it; SQLite's file is created
            when missing.
        name: of the study; created when missing.
        space: what the architectures are from.
        goals: for each target, those of its budgets. With one budget in all a trial has
            one value, the score; with several, two: latency in milliseconds on the first target,
            and score.
        supernet, data: keys of what was scored and on what (:class:`ScoreCache`).
        warn: receives one line when trials are left out; the log by default.

    Raises:
        NasError: the database cannot be reached, or the study is one of another space or of
            other values. No message holds the password.
    """

    def __init__(
        self,
        url: str,
        name: str,
        space: SearchSpace,
        goals: Mapping[str, Sequence[Goal]],
        *,
        supernet: str,
        data: str,
        warn: Callable[[str], None] = logging.getLogger(__name__).warning,
    ) -> None:
        self._url, self._name, self._warn = _parsed(url), name, warn
        self._space = space
        self._goals = {target: Goals(tuple(each)) for target, each in goals.items()}
        self._context = {"supernet": supernet, "data": data}
        self._read = 0  # trials of the study
        self._scored: dict[Architecture, float] = {}
        self._failed: set[Architecture] = set()
        self._faults: list[str] = []
        self._distributions = {
            dimension: distribution(choices) for dimension, choices in dimensions(space).items()
        }
        several = sum(map(len, goals.values())) > 1
        directions = [StudyDirection.MINIMIZE] * several + [StudyDirection.MAXIMIZE]
        with self._reaching():
            self._engine = _engine(self._url)
            with self._lock():
                whole = self._url.render_as_string(hide_password=False)
                self._storage = optuna.storages.RDBStorage(
                    whole.replace("{", "{{").replace("}", "}}"),  # it is formatted as a template
                    engine_kwargs=_engine_options(self._url),
                )
                self._study = optuna.create_study(
                    storage=self._storage,
                    study_name=name,
                    directions=directions,
                    load_if_exists=True,
                )
                self._claim(directions)

    def record(self, architectures: Sequence[Architecture], outcomes: Sequence[Outcome]) -> None:
        """Add trials, completed or failed; what the study holds already is not added again.

        A score follows a failure of the same architecture, never the other way round.

        Raises:
            NasError: an architecture of another space, a score that is not finite, or a database
                that cannot be written.
        """
        if len(architectures) != len(outcomes):
            raise NasError(f"{len(architectures)} architectures need as many outcomes")
        for architecture, outcome in zip(architectures, outcomes, strict=True):
            if architecture not in self._space:
                raise NasError(f"architecture {architecture} is not in space {self._space.name}")
            if not isinstance(outcome, Failed) and not math.isfinite(outcome):
                raise NasError(f"the score of {architecture} must be finite, not {outcome}")
        with self._reaching(), self._lock():
            self._catch_up()
            for architecture, outcome in zip(architectures, outcomes, strict=True):
                has_failed = isinstance(outcome, Failed)
                if architecture in self._scored or (has_failed and architecture in self._failed):
                    continue
                self._study.add_trial(self._trial(architecture, outcome))
                if isinstance(outcome, Failed):
                    self._failed.add(architecture)
                else:
                    self._scored[architecture] = outcome

    def recall(self) -> dict[Architecture, float]:
        """The scores recorded for this supernet and these data, oldest first.

        Whoever may write to the database may have written anything: a trial that is not such a
        score is left out.

        Raises:
            NasError: the database cannot be read.
        """
        with self._reaching():
            self._catch_up()
        if self._faults:
            self._warn(
                f"study {self._name!r}: {len(self._faults)} trials are not scores of this search "
                f"and are left out; {self._faults[0]}"
            )
        return dict(self._scored)

    def _claim(self, directions: list[StudyDirection]) -> None:
        """Mark a new study as one of this space; refuse one that is of another.

        Raises:
            NasError: it is.
        """
        if self._study.directions != directions:
            raise NasError(
                f"study {self._name!r} holds {len(self._study.directions)} values a trial, this "
                f"search {len(directions)}: choose another name for the study"
            )
        space = json.dumps(self._space.to_dict())
        if self._study.user_attrs.setdefault("space", space) != space:
            raise NasError(
                f"study {self._name!r} is of another space than {self._space.name}: choose another "
                "name for the study"
            )
        self._study.set_user_attr("space", space)
        self._study.set_metric_names(["latency_ms", "score"][-len(directions) :])

    def _trial(self, architecture: Architecture, outcome: Outcome) -> FrozenTrial:
        """A trial whose constraints are the excess over the loosest budget of each target."""
        batch = ArchitectureBatch.of([architecture])
        latency_ms: dict[str, float] = {}
        beyond: dict[str, float] = {}
        for target, goals in self._goals.items():
            latencies, usages = goals.measure(batch)
            latency_ms[target] = float(latencies[0, 0])
            beyond[target] = float(usages.min() - 1)
        params = suggested(self._space, architecture)
        attributes = self._context | {
            "architecture": architecture.to_json(),
            "latency_ms": latency_ms,
        }
        if isinstance(outcome, Failed):
            attributes["reason"] = outcome.reason
            values = None
        else:
            first, *_ = latency_ms.values()
            values = [first, float(outcome)][-len(self._study.directions) :]
        return optuna.trial.create_trial(
            state=TrialState.COMPLETE if values else TrialState.FAIL,
            params=params,
            distributions={name: self._distributions[name] for name in params},
            values=values,
            user_attrs=attributes,
            constraints=beyond,
        )

    def _catch_up(self) -> None:
        """Learn from the trials that were added since the last time, by whomever."""
        for number, trial in self._new_trials():
            self._read = number + 1
            try:
                if not self._context.items() <= trial.user_attrs.items():
                    continue
                architecture = self._checked(trial.user_attrs["architecture"])
                if trial.state == TrialState.FAIL:
                    self._failed.add(architecture)
                elif trial.state == TrialState.COMPLETE:
                    score = float(trial.values[-1])
                    if not math.isfinite(score):
                        raise ValueError(f"score {score}")
                    self._scored.setdefault(architecture, score)
            except _BAD as error:
                self._faults.append(f"trial {number}: {_line(error)}")

    def _checked(self, architecture: Any) -> Architecture:
        if not isinstance(architecture, str):
            raise ValueError(f"architecture {type(architecture).__name__}")
        found = Architecture.from_json(architecture)
        if found not in self._space:
            raise ValueError(f"architecture {found} is not in space {self._space.name}")
        return found

    def _new_trials(self) -> Iterator[tuple[int, FrozenTrial]]:
        """The trials that were not read yet; where one cannot be read, one by one without it."""
        try:
            found = self._study.get_trials(deepcopy=False)[self._read :]
        except _BAD:
            study = self._storage.get_study_id_from_name(self._name)
        else:
            yield from enumerate(found, start=self._read)
            return
        for number in count(self._read):
            try:
                identity = self._storage.get_trial_id_from_study_id_trial_number(study, number)
            except KeyError:
                return
            try:
                yield number, self._storage.get_trial(identity)
            except _BAD as error:
                self._read = number + 1
                self._faults.append(f"trial {number}: {_line(error)}")

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Only one process at a time looks what is there and adds what is not.

        A lock ends with the process that holds it, however it dies.
        """
        if self._url.get_backend_name() == "sqlite":
            file = self._url.database
            with (
                FileLock(f"{file}.lock", timeout=_WAIT_S)
                if file and file != ":memory:"
                else nullcontext()
            ):
                yield
            return
        with self._engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Optuna kept quiet, and what a database says in one line without the password."""
        try:
            with quietly():
                yield
        except (
            ImportError,
            KeyError,  # the study was deleted meanwhile
            OSError,
            RuntimeError,
            SQLAlchemyError,
            StorageInternalError,
        ) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            said = _line(getattr(cause, "orig", None) or cause or error)
            if password := self._url.password:
                said = said.replace(password, "***")
            shown = self._url.set(query={}).render_as_string(hide_password=True)
            raise NasError(f"study database {shown} cannot be used: {said}") from None


_BAD = (
    NasError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What reading a row of someone else's making may raise."""


def _parsed(url: str) -> URL:
    """The checked URL; one that is not understood is not shown, as it may hold a password.

    Raises:
        NasError: not the URL of a SQLite or PostgreSQL database, or one in a missing folder.
    """
    try:
        parsed = make_url(url)
        accepted = parsed.get_backend_name() in ("sqlite", "postgresql")
    except (SQLAlchemyError, ValueError):
        accepted = False
    if not accepted or "@" in (parsed.host or ""):  # an @ of the password, not percent-encoded
        raise NasError(
            f"the URL of a study's database must be like {_ACCEPTED}, with special characters of "
            "the password percent-encoded"
        ) from None
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        folder = Path(parsed.database).absolute().parent
        if not folder.is_dir():  # the lock would make one
            raise NasError(f"study database {parsed}: folder {folder} does not exist")
    return parsed


def _engine_options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": _WAIT_S}}
    limits = {
        "connect_timeout": 10,
        "options": f"-c lock_timeout={1000 * _WAIT_S}",
        "keepalives_idle": 30,  # a driver that lost its power frees its lock in a minute
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }
    return {"connect_args": limits, "pool_pre_ping": True}


def _engine(url: URL) -> Engine:
    return create_engine(url, **_engine_options(url))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
