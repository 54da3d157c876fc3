"""A service that holds whatever its OpenAPI document gives as an example: clients can try it."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

from latency.asked import TimeAsked
from latency.profile import Profile
from latency.target import Target
from nas.service.access.tokens import Scope, create_token
from nas.service.database.tables import events, searches, tasks, tokens, uploads
from nas.service.devices.targets import find_target, register_target, store_profile
from nas.service.devices.tasks import claim_task, submit_task, task_folder
from nas.service.service import Service
from supernet.architecture import Architecture, EncoderShape
from tests.nas.service.seeded import finished_search

SEARCH = "5b1c09d2f8a3e746"
TARGET = "pi"
TASK = "0123456789abcdef0123456789abcdef"
TOKEN = "8796a5b4c3d2e1f0"
UPLOAD = "reviews"
UPLOADS: dict[str, dict[str, Any]] = {
    "dataset": {
        "splits": {"train": 900, "test": 100},
        "columns": [{"name": "text", "kind": "text"}, {"name": "label", "kind": "whole"}],
        "labels": {"kind": "classification", "classes": 2, "names": ["0", "1"]},
        "example": {"text": "Well made, and it lasts.", "label": 1},
    },
    "supernet": {
        "architecture": {
            "hidden_size": 384,
            "layers": [{"num_heads": 12, "qkv_size": 384, "intermediate_size": 1536}],
        },
        "labels": ["negative", "positive"],
        "parameters": 22713986,
    },
}
"""What is kept of each upload that is put there."""
KEPT = {
    SEARCH: "5b1c09d2f8a3e747",
    TARGET: "pi-2",
    TASK: "1123456789abcdef0123456789abcdef",
    TOKEN: "8796a5b4c3d2e1f1",
    UPLOAD: "reviews-2",
}
"""The examples' names, and others in place of them for what must not happen to the examples."""


def populate(service: Service, profile: Profile) -> None:
    """Put the examples into a service; the profile is its target's."""
    found = finished_search(service, ("4x", "2x"))["id"]
    results = service.folder("results")
    (results / found).rename(results / SEARCH)
    with service.engine.begin() as connection:
        for table, column in ((searches, searches.c.id), (events, events.c.search_id)):
            connection.execute(
                sa.update(table).where(column == found).values({column.name: SEARCH})
            )
    register_target(service.engine, service.settings.data, TARGET, "ada", profile.target, most=1)
    known = find_target(service.engine, TARGET)
    assert known is not None
    store_profile(service.engine, service.settings.data, known, profile)
    _put_task(service, profile.target)
    now = time.time()
    with service.engine.begin() as connection:
        for kind, about in UPLOADS.items():
            (service.folder(f"{kind}s") / UPLOAD).mkdir()
            connection.execute(
                uploads.insert().values(
                    kind=kind,
                    name=UPLOAD,
                    owner="ada",
                    created=now,
                    digest="9f86d081884c7d65" * 4,
                    bytes=48213,
                    about=about,
                )
            )


def _put_task(service: Service, target: Target) -> None:
    """Two tasks: the example, which is claimed, and another that waits."""
    small = Architecture.uniform(num_layers=1, hidden_size=8, num_heads=1, intermediate_size=8)
    asked = TimeAsked(target=target, shape=EncoderShape(), models=(small,), rounds=5).to_dict()
    for number in (TASK, KEPT[TASK]):
        submit_task(
            service.engine, number, target=TARGET, search_id=SEARCH, kind="time", request=asked
        )
    assert claim_task(service.engine, TARGET) is not None
    with service.engine.begin() as connection:
        connection.execute(
            tasks.update().where(tasks.c.id == TASK).values(lease=time.time() + 86_400)
        )
    folder = task_folder(service.settings.data, TASK)
    folder.mkdir(parents=True)
    (folder / "0.onnx").write_bytes(b"weights")


def example_token(service: Service, owner: str, scopes: list[Scope]) -> str:
    """A token whose id is the document's example."""
    made, token = create_token(service.engine, owner, scopes)
    with service.engine.begin() as connection:
        connection.execute(tokens.update().where(tokens.c.id == made).values(id=TOKEN))
    return token
