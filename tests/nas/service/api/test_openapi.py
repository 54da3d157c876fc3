"""The OpenAPI document: complete, sound, and true of the service, whatever is sent."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from fastapi.testclient import TestClient
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema

from latency.profile import Profile
from nas.service.api.app import create_app
from nas.service.api.auth import is_public
from tests.latency.conftest import make_profile  # noqa: F401 - a fixture
from tests.nas.service.populated import example_token, populate

CONFIG = Path(__file__).parents[3] / "stress" / "schemathesis.toml"
EXAMPLES = 3  # of each operation at random, besides those that the document gives or implies
QUICK = {"include-operation-id": "put_profile", "phases": {"coverage": {"enabled": False}}}
"""A profile's borders are many hundreds: tests/stress/fuzz_api.py tries them."""
MEASURED = ("/ProfileFile", "/CompleteBody")
"""Schemas of bodies that programs measure and nobody writes: their fields are described."""
Json = dict[str, Any]


@pytest.fixture
def document(client: TestClient) -> Json:
    found: Json = client.get("/v1/openapi.json").json()
    return found


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_document_is_openapi(document: Json) -> None:
    assert document["openapi"].startswith("3.1")
    schemathesis.openapi.from_dict(document).validate()


def test_every_operation_is_described(document: Json) -> None:
    for name, operation in operations(document):
        for part in ("summary", "description", "tags", "operationId"):
            assert operation[part], f"{name} has no {part}"
        refusals = {status for status in operation["responses"] if status.startswith("4")}
        if not is_public(name.partition(" ")[2]):
            assert refusals >= {"401", "403", "429"}, name
            assert operation["security"], name
        assert "requestBody" not in operation or refusals >= {"400", "413", "422"}, name
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names)


def test_every_request_body_has_a_valid_example(document: Json) -> None:
    for name, operation in operations(document):
        for content_type, media in operation.get("requestBody", {}).get("content", {}).items():
            if not content_type.endswith("json"):
                continue
            example = media.get("example", example_of(document, media["schema"]))
            if example is None and media["schema"]["$ref"].endswith(MEASURED):
                continue
            assert example is not None, f"{name} has no example"
            jsonschema_rs.validator_for(
                media["schema"] | {"components": document["components"]}
            ).validate(example)


def example_of(document: Json, schema: Json) -> Any:
    name = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"].get(name, {}).get("example")


@pytest.mark.slow
def test_the_service_does_as_the_document_says(
    make_service,
    make_profile,  # noqa: F811
) -> None:
    service = make_service(
        auth="required", limits={"requests_per_minute": 10**6, "targets_per_user": 10**6}
    )
    profile: Profile = make_profile()
    populate(service, profile)
    token = example_token(service, "ada", ["admin"])
    given = tomllib.loads(CONFIG.read_text())
    given["operations"].append(QUICK)
    given |= {
        "max-stream-events": 1,
        "seed": 0,
        "headers": {"Authorization": f"Bearer {token}"},
        "generation": {"database": "none", "max-examples": EXAMPLES},
    }
    document = schemathesis.openapi.from_asgi(
        "/v1/openapi.json", create_app(service), config=SchemathesisConfig.from_dict(given)
    )
    cases, failures = 0, []
    for event in from_schema(document).execute():
        assert not isinstance(event, events.NonFatalError | events.FatalError), event
        if isinstance(event, events.ScenarioFinished):
            cases += len(event.recorder.cases)
            failures += [
                f"{check.failure_info.failure}\n{check.failure_info.code_sample}"
                for checks in event.recorder.checks.values()
                for check in checks
                if check.status is Status.FAILURE and check.failure_info is not None
            ]
    assert not failures, "\n\n".join(failures[:5])
    assert cases > 1000
