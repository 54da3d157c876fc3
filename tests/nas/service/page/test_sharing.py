"""Several users at the page: what each sees, shares, removes and may do."""

from __future__ import annotations

import time
from typing import Any

from latency.target import Target
from nas.service.access.tokens import create_token, find_caller
from nas.service.access.visibility import readers_of
from nas.service.database.tables import targets
from nas.service.devices.targets import find_target, register_target
from nas.service.searches.lifecycle import find
from nas.service.service import Service
from nas.service.uploads.kept import find_upload, keep_upload
from tests.nas.service.browsing import browsing
from tests.nas.service.live import wait_for
from tests.nas.service.page.servers import Served, signed_in
from tests.nas.service.seeded import finished_search


def finished(service: Service, search_id: str) -> Any:
    """A search as the database holds it."""
    return find(service.engine, search_id)._mapping


def register(served: Served, name: str, seen: float | None) -> None:
    """A device of ada's that was seen at a time."""
    engine, data = served.service.engine, served.service.settings.data
    target = Target(threads=1, batch_size=1, sequence_length=64)
    register_target(engine, data, name, "ada", target, most=9)
    with engine.begin() as connection:
        row = targets.update().where(targets.c.name == name)
        connection.execute(row.values(last_seen=seen))


@browsing
def test_a_search_is_named_noted_and_shared_and_its_reader_is_shown_no_other_button(
    private, open_page
):
    done = finished_search(private.service, ("4x",), seed=2)["id"]
    bob = signed_in(open_page, private, "bob", ["read", "submit"], "searches")
    bob.get_by_text("No searches yet.").wait_for()

    ada = signed_in(open_page, private, "ada", ["read", "submit"], f"searches/{done}")
    ada.get_by_text("Name, note and sharing").click()
    ada.get_by_label("Name", exact=True).fill("Help desk")
    ada.get_by_label("Note").fill("In use since March.\nAsk me first.")
    ada.get_by_role("button", name="Save").click()
    ada.get_by_role("heading", name="Help desk").wait_for()
    ada.get_by_text("In use since March.").first.wait_for()
    ada.get_by_text("Name, note and sharing").click()
    ada.get_by_label("Shared with").fill("Bob the builder")
    ada.get_by_role("button", name="Share the search").click()
    ada.get_by_text("Write names of users").wait_for()
    ada.get_by_label("Shared with").fill("bob, carol")
    ada.get_by_role("button", name="Share the search").click()
    wait_for(lambda: "bob" in readers_of(private.service.engine, "search", [done])[done])

    bob.reload()
    row = bob.get_by_role("row").filter(has_text="Help desk")
    row.wait_for()
    assert row.get_by_role("button").count() == 0
    model = finished(private.service, done)["models"][0]
    assert f"{model['score']:.1%}" in row.inner_text()
    assert "4x = 1.87 ms" in row.inner_text()
    assert "quick" in row.inner_text()
    row.get_by_role("link").click()
    bob.get_by_role("heading", name="Budget met").wait_for()
    bob.get_by_text("ada shares it with you.").wait_for()
    assert bob.get_by_role("button", name="Delete").count() == 0
    bob.goto(f"{private.url}/#/searches?owner=bob")
    bob.get_by_text("No search matches these filters.").wait_for()
    assert bob.get_by_label("Whose").input_value() == "bob"


@browsing
def test_a_token_that_may_not_is_told_so(guarded, open_page):
    reader = signed_in(open_page, guarded, "rita", ["read"], "new")
    reader.get_by_text("Your token does not start searches").wait_for()
    page = open_page(f"{guarded.url}/#/searches")
    page.get_by_label("Token").fill(create_token(guarded.service.engine, "pi", ["device"])[1])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("this needs a token with scope read").wait_for()
    page.get_by_label("Token").fill(guarded.token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Signed in as ada").wait_for()


@browsing
def test_a_device_that_is_away_is_not_chosen_and_is_removed_by_its_owner(private, open_page):
    for name, seen in (("here", time.time()), ("gone", time.time() - 9000), ("never", None)):
        register(private, name, seen)
    ada = signed_in(open_page, private, "ada", ["read", "submit"], "new")
    ada.get_by_role("checkbox", name="here").check()
    for name in ("gone", "never"):
        assert ada.get_by_role("checkbox", name=name).is_disabled()
    ada.get_by_text("Chosen: cpu, here").wait_for()
    ada.goto(f"{private.url}/#/devices")
    ada.get_by_text("nas admin token create --owner ada --scope device").wait_for()
    ada.get_by_role("button", name="Remove gone").click()
    ada.get_by_role("button", name="Remove", exact=True).click()
    ada.get_by_role("heading", name="gone").wait_for(state="detached")
    assert find_target(private.service.engine, "gone") is None

    admin = signed_in(open_page, private, "eve", ["admin"], "devices")
    admin.get_by_role("button", name="Make a token").click()
    secret = admin.locator(".snippet code").filter(has_text="tb_").inner_text()
    caller = find_caller(private.service.engine, secret)
    assert (caller.owner, caller.scopes) == ("eve", {"device"})


@browsing
def test_an_upload_is_shown_shared_and_deleted(private, open_page):
    kept = private.service.folder("uploads") / "pairs"
    kept.mkdir()
    about = {
        "splits": {"train": 900, "test": 100},
        "columns": [{"name": "text", "kind": "text"}, {"name": "label", "kind": "whole"}],
        "labels": {"kind": "classification", "classes": 2, "names": ["good", "bad"]},
        "example": {"text": "Well made.", "label": 1},
    }
    given = {"owner": "ada", "digest": 64 * "0", "about": about}
    assert keep_upload(private.service, "dataset", "pairs", kept, **given)
    ada = signed_in(open_page, private, "ada", ["read", "submit"], "uploads")
    ada.get_by_text("900 train, 100 test").wait_for()
    ada.get_by_text("2 classes: good, bad").wait_for()
    ada.get_by_label("Shared with").fill("*")
    ada.get_by_role("button", name="Share pairs").click()
    wait_for(lambda: readers_of(private.service.engine, "dataset", ["pairs"])["pairs"] == ["*"])
    bob = signed_in(open_page, private, "bob", ["read", "submit"], "uploads")
    bob.get_by_text("2 classes: good, bad").wait_for()
    assert bob.get_by_role("button", name="Delete").count() == 0
    ada.get_by_role("button", name="Delete pairs").click()
    ada.get_by_role("button", name="Delete", exact=True).click()
    ada.get_by_text("No data set is uploaded.").wait_for()
    assert find_upload(private.service.engine, "dataset", "pairs") is None
