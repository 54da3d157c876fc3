"""What a client may ask of a search, by names and never by paths on the server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, get_args

import sqlalchemy as sa
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)

from latency.json_numbers import NUMBER
from latency.options import load_target
from latency.target import Target
from nas.data.sources import PYDOC
from nas.pipeline.recipe import Recipe, load_recipe, parse_recipe
from nas.service.access.tokens import Caller
from nas.service.access.visibility import visible
from nas.service.database.tables import targets, uploads
from nas.service.plain_text import check_plain, check_text
from nas.service.searches.own_recipes import check_choices, check_work
from nas.service.searches.webhooks import check_webhook
from nas.service.service import EMBEDDED_TEACHER, Service, UploadKind
from nas.service.settings import Name
from nas.tasks.kinds import METRICS
from supernet.configs import config_names, load_space
from supernet.errors import NasError
from supernet.space import SearchSpace

EARLY_STAGES = ("data", "profiles", "teacher", "supernet", "search")
"""As :data:`nas.pipeline.pipeline.STAGES`, whose module loads torch."""
MODEL_STAGE = "model"

Column = Annotated[str, StringConstraints(min_length=1, max_length=200)]


def _understood(text: str) -> str:
    if not _BUDGET.fullmatch(text):
        raise ValueError("write milliseconds (5ms, 5ms@p95) or a speed-up over the teacher (4x)")
    return text


_BUDGET = re.compile(r"([0-9]*[1-9][0-9]*(\.[0-9]*)?|[0-9]*\.[0-9]*[1-9][0-9]*)(ms|x)(@p(50|95))?")
BudgetText = Annotated[
    str,
    StringConstraints(max_length=40),
    AfterValidator(_understood),
    Field(examples=["4x", "5ms", "5ms@p95"], json_schema_extra={"pattern": f"^{_BUDGET.pattern}$"}),
]
"""What :meth:`latency.target.Budget.parse` takes, in a form that clients can read too."""

Title = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Note = Annotated[str, StringConstraints(min_length=1, max_length=4000)]
"""What people write about a search, for people; see :func:`check_words`."""


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"write one of {', '.join(METRICS)}")
    return name


MetricName = Annotated[
    str, AfterValidator(_known_metric), Field(json_schema_extra={"enum": list(METRICS)})
]
"""One of :data:`nas.tasks.kinds.METRICS`, in a form that clients can read too."""


class SearchRequest(BaseModel):
    """A search: whose knowledge, on what data, within which budgets on which targets."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "example": {"budgets": ["4x", "2ms"], "recipe": "quick", "space": "minilm-native"}
        },
    )

    budgets: tuple[BudgetText, ...] = Field(
        min_length=1,
        max_length=16,
        json_schema_extra={"uniqueItems": True},
        description="Milliseconds (`5ms`), a speed-up over the teacher (`4x`), or either at the "
        "95th percentile (`5ms@p95`). One search serves all.",
    )
    targets: tuple[Name, ...] = Field(
        default=("cpu",),
        min_length=1,
        max_length=8,
        json_schema_extra={"uniqueItems": True},
        description="Where the models will serve: every budget is met on each.",
    )
    teacher: Name = Field(default=EMBEDDED_TEACHER, description="One of the catalog's teachers.")
    data: Name = Field(default=PYDOC, description="One of the catalog's data sets.")
    text_columns: tuple[Column, ...] | None = Field(default=None, min_length=1, max_length=2)
    label_column: Column = "label"
    metric: MetricName | None = None
    labels: tuple[Column, ...] | None = Field(
        default=None,
        min_length=2,
        max_length=10_000,
        description="Names of the classes of a teacher's ready head, in its order, where its "
        "configuration has none.",
    )
    space: Name | dict[str, Any] | None = Field(
        default=None,
        description="One of the catalog's, or the content of such a file; by default what suits "
        "the teacher.",
    )
    recipe: Name | dict[str, Any] = Field(
        default="full", description="One of the catalog's, or the content of such a file."
    )
    supernet: Name | None = Field(
        default=None, description="An uploaded supernet, in place of training one."
    )
    max_parameters: Annotated[int, Field(ge=1, le=10**12), NUMBER] | None = None
    max_memory_mb: Annotated[float, Field(ge=0.001, le=1e6), NUMBER] | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1), NUMBER] = 0
    priority: Annotated[int, Field(ge=1, le=1000), NUMBER] = Field(
        default=100, description="Among one's own: 1 comes before 1000."
    )

    @field_validator("budgets", "targets")
    @classmethod
    def _each_once(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(given)) < len(given):
            raise ValueError("one is given twice")
        return given

    @property
    def goals(self) -> list[tuple[str, str]]:
        """(target, budget) of each model, in the order of their numbers."""
        return [(target, budget) for target in self.targets for budget in self.budgets]


class NewSearch(SearchRequest):
    """A search as it is submitted: what is asked for, and words that do not change the result."""

    name: Title | None = None
    note: Note | None = None
    webhook: str | None = Field(
        default=None,
        max_length=500,
        description="An `https` address that is told when the search ends, on a host that the "
        "operator allows.",
        examples=[None],
    )


def stage_names(request: SearchRequest) -> list[str]:
    """The stages of a search, in order: those before the models, then one for each model."""
    return [*EARLY_STAGES, *(f"{MODEL_STAGE} {number}" for number in range(len(request.goals)))]


def check_request(service: Service, request: NewSearch, caller: Caller) -> None:
    """Refuse at once what no job could do, and what the caller may not see.

    Raises:
        NasError: an unknown name, a space or recipe that is not accepted, or a webhook that the
            service is not to call.
    """
    offered = catalog(service, caller)
    for field, kind, given in (
        ("teacher", "teachers", [request.teacher]),
        ("data", "datasets", [request.data]),
        ("supernet", "supernets", [] if request.supernet is None else [request.supernet]),
        ("targets", "targets", list(request.targets)),
    ):
        for name in given:
            if name not in offered[kind]:
                known = ", ".join(offered[kind]) or "none"
                raise NasError(f"{field}: {name!r} is unknown; known are {known}")
    wanted_space(request.space)
    recipe = wanted_recipe(service, request.recipe)
    general = [] if recipe.general is None else [recipe.general.texts]
    for texts in (recipe.distill.texts, *general):
        if texts not in offered["datasets"]:
            known = ", ".join(offered["datasets"])
            raise NasError(f"recipe: texts {texts!r} is unknown; known are {known}")
    check_words(request.name, request.note)
    for field in ("text_columns", "label_column", "labels"):
        check_plain(field, getattr(request, field))
    if request.webhook is not None:
        check_webhook(request.webhook, service.settings.webhook_hosts)


def check_words(name: str | None, note: str | None) -> None:
    """Refuse words of which a reader would not see all.

    Raises:
        NasError: a character that is not seen, or that changes the order of others.
    """
    check_text("name", name or "")
    for line in (note or "").split("\n"):
        check_text("note", line, most=4000)


def catalog(service: Service, caller: Caller) -> dict[str, list[str]]:
    """The names that a caller's request may use, by kind."""
    kinds: tuple[UploadKind, ...] = get_args(UploadKind)
    seen = sa.or_(
        *(
            sa.and_(
                uploads.c.kind == kind,
                visible(service, caller, kind, uploads.c.owner, uploads.c.name),
            )
            for kind in kinds
        )
    )
    reached = visible(service, caller, "target", targets.c.owner, targets.c.name)
    with service.engine.connect() as connection:
        kept = connection.execute(sa.select(uploads.c.kind, uploads.c.name).where(seen)).all()
        devices = connection.execute(sa.select(targets.c.name).where(reached)).scalars().all()
    return {
        **{
            f"{kind}s": sorted(
                {*service.offered(kind), *(row.name for row in kept if row.kind == kind)}
            )
            for kind in kinds
        },
        "spaces": config_names("spaces"),
        "recipes": config_names("recipes"),
        "metrics": list(METRICS),
        "targets": sorted({*server_targets(), *devices}),
    }


def server_targets() -> dict[str, Target]:
    """The targets under ``configs/targets`` that a model can be handed over for."""
    found = {name: load_target(name) for name in config_names("targets")}
    return {
        name: target
        for name, target in found.items()
        if target.device == "cpu" and target.dtype != "int8"
    }


def wanted_space(given: str | Mapping[str, Any] | None) -> SearchSpace | None:
    """The space that a request names or holds.

    Raises:
        NasError: neither known nor accepted.
    """
    if given is None:
        return None
    if isinstance(given, str):
        _check_known("space", given, config_names("spaces"))
        return load_space(given)
    check_plain("space", given)
    check_choices(given)
    return SearchSpace.from_dict({"name": "own", **given})


def wanted_recipe(service: Service, given: str | Mapping[str, Any]) -> Recipe:
    """The recipe that a request names or holds; a client's own keeps to the service's limits.

    Raises:
        NasError: neither known nor accepted, or more work than the service allows.
    """
    if isinstance(given, str):
        _check_known("recipe", given, config_names("recipes"))
        return load_recipe(given)
    check_plain("recipe", given)
    recipe = parse_recipe(given, "recipe")
    check_work(recipe, service.settings.limits)
    return recipe


def _check_known(field: str, given: str, known: list[str]) -> None:
    if given not in known:
        raise NasError(f"{field}: {given!r} is unknown; known are {', '.join(known)}")
