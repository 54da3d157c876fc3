"""Names and lines that others see: nothing is hidden in them, whichever way they came in."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from latency.asked import TimeAsked
from latency.profile import Profile
from latency.target import Target
from nas.service.devices.tasks import submit_task
from nas.service.plain_text import check_text
from nas.service.service import Service
from supernet.architecture import Architecture, EncoderShape
from supernet.errors import NasError, printable
from tests.latency.conftest import MakeProfile, make_profile  # noqa: F401 - a fixture

HIDDEN = {
    "an override": "\u202e",
    "an isolate": "\u2066",
    "a mark": "\u200f",
    "no width": "\u200b",
    "a joiner": "\u200d",
    "a byte order mark": "\ufeff",
    "a line separator": "\u2028",
    "an escape": "\x1b",
    "a C1 control": "\x9b",
    "a line break": "\n",
    "a soft hyphen": "\xad",
    "half a pair": "\ud800",
    "a tag": "\U000e0041",
}
PLAIN = ["text", "Prüfung 2", "テキスト", "متن", "טקסט", "a b-c_d.(e)", "👍", ""]
TARGET = {"threads": 1, "batch_size": 1, "sequence_length": 64}
MACHINE = {
    "cpu": "Cortex-A76", "cores": 4, "memory_gib": 8, "governor": "", "gpu": "",
    "machine": "aarch64", "system": "Linux", "versions": {"onnxruntime": "1.27.0"},
}  # fmt: skip
OVERRIDE = "ab\u202ecd"


@pytest.mark.parametrize("sign", HIDDEN.values(), ids=HIDDEN.keys())
def test_a_sign_that_is_not_seen_is_named(sign: str) -> None:
    with pytest.raises(NasError) as refused:
        check_text("label", f"po{sign}sitive")
    told = str(refused.value)
    assert told.startswith("label: 'po\\")
    assert f"holds U+{ord(sign):04X}," in told
    assert told.isprintable()
    assert printable(f"po{sign}sitive") == "po sitive"


@pytest.mark.parametrize("text", PLAIN)
def test_words_of_any_script_are_plain(text: str) -> None:
    check_text("label", text)
    assert printable(text) == text


@given(st.text(max_size=60))
def test_what_is_printed_for_others_is_plain(text: str) -> None:
    check_text("label", printable(text))


def test_a_text_is_no_longer_than_it_may_be() -> None:
    check_text("label", "x" * 200, most=200)
    with pytest.raises(NasError, match="more than 200 characters"):
        check_text("label", "x" * 201, most=200)


SEARCH = {"budgets": ["4x"], "recipe": "smoke"}


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("text_columns", [OVERRIDE]),
        ("text_columns", ["text", "b\u200b"]),
        ("label_column", OVERRIDE),
        ("labels", ["good", OVERRIDE]),
        ("name", OVERRIDE),
        ("note", f"one line\n{OVERRIDE}"),
        ("space", {"name": OVERRIDE}),
        ("recipe", {"space": OVERRIDE}),
    ],
)
def test_a_search_is_told_in_plain_words(client: TestClient, field: str, given: object) -> None:
    refused = client.post("/v1/searches", json=SEARCH | {field: given})
    assert refused.status_code == 422
    detail = refused.json()["detail"]
    assert detail.startswith(f"{field}: ")
    assert "is not seen" in detail
    assert client.get("/v1/searches").json()["items"] == []


def test_plain_columns_of_any_script_are_searched(client: TestClient) -> None:
    asked = SEARCH | {"text_columns": ["متن"], "label_column": "Prüfung 2"}
    assert client.post("/v1/searches", json=asked).status_code == 201


@pytest.mark.parametrize(
    "told",
    [
        *({"fingerprint": {name: OVERRIDE}} for name in ("cpu", "governor", "gpu", "machine")),
        {"fingerprint": {"system": "Linux\x1b[2J"}},
        {"fingerprint": {"versions": {"onnxruntime": OVERRIDE}}},
        {"fingerprint": {"versions": {OVERRIDE: "1.0"}}},
        {"agent": {"version": OVERRIDE}},
    ],
)
def test_a_device_tells_of_itself_in_plain_words(client: TestClient, told: Any) -> None:
    ((field, change),) = told.items()
    known: dict[str, Any] = {"fingerprint": MACHINE, "agent": {"version": "0.1.0"}}
    new = {"target": TARGET, field: known[field] | change}
    refused = client.put("/v1/targets/pi", json=new)
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith(f"{field}: ")
    assert client.get("/v1/targets/pi").status_code == 404
    assert client.put("/v1/targets/pi", json={"target": TARGET} | known).status_code == 201


@pytest.mark.parametrize("path", ["targets", "datasets", "teachers", "supernets"])
def test_names_of_things_are_plain(client: TestClient, path: str) -> None:
    asked = {"params": {"filename": "a.zip"}, "json": {"target": TARGET}}
    assert client.put(f"/v1/{path}/p%E2%80%AEi", **asked).status_code == 422


@pytest.mark.parametrize("owner", [OVERRIDE, "ada\u200b", "ada\n", "ada\x1b"])
def test_owners_of_tokens_are_plain(client: TestClient, owner: str) -> None:
    asked = {"owner": owner, "scopes": ["read"]}
    assert client.post("/v1/tokens", json=asked).status_code == 422


@pytest.mark.parametrize("place", ["fingerprint", "sessions", "spaces"])
def test_a_profile_is_told_in_plain_words(
    client: TestClient,
    make_profile: MakeProfile,  # noqa: F811
    place: str,
) -> None:
    client.put("/v1/targets/pi", json={"target": TARGET})
    profile: Profile = make_profile()
    sound = profile.to_dict()
    spoilt = copy.deepcopy(sound)
    where = spoilt[place] if isinstance(spoilt[place], dict) else spoilt[place][0]
    where[{"fingerprint": "cpu", "sessions": "began", "spaces": "name"}[place]] = OVERRIDE
    header = {"Content-Type": "application/json"}
    put = "/v1/targets/pi/profile"
    refused = client.put(put, content=json.dumps(spoilt), headers=header)
    assert refused.status_code == 422
    assert "U+202E" in refused.json()["detail"]
    assert client.put(put, content=json.dumps(sound), headers=header).status_code == 200


def test_why_a_task_failed_is_kept_in_plain_words(service: Service, client: TestClient) -> None:
    client.put("/v1/targets/pi", json={"target": TARGET})
    asked = TimeAsked(
        target=Target.from_dict(TARGET), shape=EncoderShape(), rounds=2,
        models=(Architecture.uniform(num_layers=1, hidden_size=16, num_heads=2,
                                     intermediate_size=32),),
    )  # fmt: skip
    task = "0" * 32
    submit_task(
        service.engine, task, target="pi", search_id=None, kind="time", request=asked.to_dict()
    )
    client.post("/v1/targets/pi/tasks:claim", json={"wait_s": 0})
    body = {"attempt": 1, "error": f"it\nbroke: {OVERRIDE}"}
    assert client.post(f"/v1/tasks/{task}:fail", json=body).status_code == 204
    assert client.get(f"/v1/tasks/{task}").json()["error"] == "it broke: ab cd"
