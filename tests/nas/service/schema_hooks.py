"""What schemathesis is told besides the document: what it leaves alone, and a check of our own."""

from __future__ import annotations

import json
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.generation.meta import REQUEST_SHAPE_PROBES, coverage_scenario

from tests.nas.service.populated import KEPT

_ENDINGS = ("DELETE", "PUT")


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Have requests end what others made, not the examples; and have none wait for a task."""
    if case.operation.method.upper() in _ENDINGS or case.operation.path.endswith(
        (":fail", ":complete")
    ):
        for name, value in dict(case.path_parameters or {}).items():
            if value in KEPT:
                case.path_parameters[name] = KEPT[value]
    if case.operation.path.endswith(":claim") and isinstance(case.body, dict):
        wait_s = case.body.get("wait_s", 20)
        if isinstance(wait_s, int | float) and not isinstance(wait_s, bool) and 0 <= wait_s <= 30:
            case.body["wait_s"] = 0


@schemathesis.check
def valid_requests_are_well_formed(ctx: CheckContext, response: Response, case: Case) -> None:
    """What the document calls valid is refused by no validation: it has all the limits."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if coverage_scenario(case) in REQUEST_SHAPE_PROBES:
        return
    invalid = response.status_code == 422 and "errors" in json.loads(response.content)
    if invalid or response.status_code in (400, 408, 413, 415):
        raise AssertionError(f"a valid request was refused by validation: {response.text}")
