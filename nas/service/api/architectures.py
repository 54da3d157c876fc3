"""Budgets answered from a finished search, at once: ``POST /v1/architectures:query``."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated

from anyio import to_thread
from fastapi import Request
from pydantic import BaseModel, Field

from latency.json_numbers import NUMBER
from nas.report.answers import Answers, budget_ms, on_target
from nas.report.record import ShownFront, report_of
from nas.service.access.tokens import Caller
from nas.service.api.auth import Reader, The
from nas.service.api.bodies import strict_router
from nas.service.api.owned import find
from nas.service.api.problems import ProblemError
from nas.service.api.targets import PREDICTIONS
from nas.service.devices.targets import find_target, predictor_of
from nas.service.searches import lifecycle
from nas.service.searches.requests import BudgetText
from nas.service.searches.results import read_report
from nas.service.service import Service
from nas.service.settings import Name
from supernet.architecture import Architecture, EncoderShape

router = strict_router("models", 404)

_KEPT = 256


class Query(
    BaseModel,
    extra="forbid",
    json_schema_extra={"example": {"search": "5b1c09d2f8a3e746", "budget": "3ms"}},
):
    """A budget to answer from what a search has scored."""

    search: str = Field(pattern=r"^[0-9a-f]{16}$")
    budget: BudgetText
    model: Annotated[int, Field(ge=0, le=200), NUMBER] = Field(
        default=0, description="Of which target: the model's number."
    )
    target: Name | None = Field(
        default=None, description="A registered target with a profile, in place of the model's."
    )


class Answer(BaseModel):
    """The best architecture that is predicted within a budget."""

    architecture: Architecture
    latency_ms: float = Field(description="Predicted; what is handed over is measured.")
    score: float = Field(
        description="That its developed model is expected to have, on validation data."
    )
    metric: str
    budget_ms: float
    percentile: int
    parameters: int


@dataclass(frozen=True)
class Ready:
    """A search that is ready to be asked."""

    answers: Answers
    shape: EncoderShape


Key = tuple[str, int, str | None, str | None]


class Fronts:
    """Searches that were asked lately, ready to be asked again; of the event loop's thread."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, Ready] = OrderedDict()

    def get(self, key: Key) -> Ready | None:
        """The one of (search, model, target, its profile's digest), if it is remembered."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def keep(self, key: Key, ready: Ready) -> None:
        """Remember one; the one not asked for longest makes way."""
        self._kept[key] = ready
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def forget(self, search_id: str) -> None:
        """A search that is removed."""
        for key in [key for key in self._kept if key[0] == search_id]:
            del self._kept[key]


@router.post("/architectures:query")
async def query(asked: Query, caller: Reader, service: The, request: Request) -> Answer:
    """The best architecture within a budget, of all that a search has scored. Nothing is trained.

    The rule is the search's own: smoothed scores decide, and of equals the faster.
    """
    fronts: Fronts = request.app.state.fronts
    digest = None
    if asked.target is not None or service.settings.private:
        digest = await to_thread.run_sync(_profile_asked, service, caller, asked)
    key = (asked.search, asked.model, asked.target, digest)
    ready = fronts.get(key)
    if ready is None:
        ready = await to_thread.run_sync(_load, service, asked, limiter=PREDICTIONS)
        fronts.keep(key, ready)
    shown = ready.answers.shown
    limit_ms = budget_ms(shown, asked.budget)
    best = ready.answers.within(limit_ms)
    return Answer(
        architecture=best.architecture,
        latency_ms=best.latency_ms,
        score=best.score,
        metric=shown.metric,
        budget_ms=limit_ms,
        percentile=shown.percentile,
        parameters=best.architecture.parameters(ready.shape),
    )


def _profile_asked(service: Service, caller: Caller, asked: Query) -> str | None:
    """The digest of the profile to predict by; None leaves what the search has predicted.

    Raises:
        ProblemError: the caller may not see the search or the target, or it has no profile.
    """
    find(service, caller, "search", asked.search)
    if asked.target is None:
        return None
    digest: str | None = find(service, caller, "target", asked.target).profile_digest
    if digest is None:
        raise _no_profile(asked)
    return digest


def _no_profile(asked: Query) -> ProblemError:
    return ProblemError(404, f"no target {asked.target} that has a profile")


def _load(service: Service, asked: Query) -> Ready:
    found = lifecycle.find(service.engine, asked.search)
    models = [] if found is None else found.models or []
    if asked.model >= len(models):
        raise ProblemError(404, f"no search {asked.search} that is done and has such a model")
    report = read_report(service.folder("results") / asked.search / str(asked.model))
    shown = ShownFront.of(report_of(report))
    if asked.target is not None:
        known = find_target(service.engine, asked.target)
        predictor = None if known is None else predictor_of(service.settings.data, known)
        if known is None or predictor is None:
            raise _no_profile(asked)
        target, percentile = known.target, shown.percentile
        shown = on_target(shown, lambda many: predictor.predict(many, percentile, target=target))
    return Ready(Answers(shown), EncoderShape(**models[asked.model]["shape"]))
