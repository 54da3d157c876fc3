"""The page, used in a real browser against a real server."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from latency.target import Target
from nas.service.access.tokens import Scope, create_token, find_caller
from nas.service.access.visibility import readers_of
from nas.service.api.app import create_app
from nas.service.api.page import asset_names
from nas.service.database.engine import open_database
from nas.service.database.revisions import migrate
from nas.service.database.tables import events as happened
from nas.service.database.tables import searches, targets, workers
from nas.service.devices.targets import find_target, register_target
from nas.service.searches import events
from nas.service.searches.lifecycle import begin, create, find, finish
from nas.service.searches.requests import NewSearch
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.uploads.kept import delete_upload, find_upload, keep_upload
from tests.nas.service.browsing import browsing
from tests.nas.service.conftest import Waiting
from tests.nas.service.live import wait_for
from tests.nas.service.seeded import finished_search

PHONE = {"width": 360, "height": 740}

# What the page is made of


def test_the_page_and_its_files_are_served_with_their_types(client):
    served = {name: client.get(f"/assets/{name}") for name in asset_names()} | {
        "/": client.get("/")
    }
    assert {"plotly.min.js", "app.js", "style.css", "mark.svg"} < set(served)
    for name, answer in served.items():
        assert answer.status_code == 200
        kind = "html" if name == "/" else {"js": "javascript"}.get(*2 * [name.split(".")[-1]])
        assert kind in answer.headers["content-type"] or "svg" in answer.headers["content-type"]
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "unsafe-eval" not in policy
    linked = re.findall(r'(?:src|href)="(/assets/[^"]+)"', served["/"].text)
    assert all(client.get(path).status_code == 200 for path in linked)
    assert client.get("/assets/..%2Fapi%2Fapp.py").status_code == 404
    assert client.get("/assets/index.html").status_code == 404


def test_a_browser_that_has_a_file_is_told_so(client):
    first = client.get("/assets/plotly.min.js", headers={"Accept-Encoding": "gzip"})
    assert first.headers["content-encoding"] == "gzip"
    assert int(first.headers["content-length"]) < len(first.content) / 3
    again = client.get("/assets/plotly.min.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for refusing in ("identity", "gzip;q=0"):
        plain = client.get("/assets/app.js", headers={"Accept-Encoding": refusing})
        assert "content-encoding" not in plain.headers
    assert client.get("/assets/app.js", headers={"If-None-Match": '"other"'}).text == plain.text


# Using it


@dataclass
class Served:
    """A server with finished searches, and what it stands on."""

    url: str
    service: Service
    token: str
    done: dict[str, Any]
    server: uvicorn.Server

    def drop_connections(self) -> None:
        """As a network that breaks off."""
        for connection in list(self.server.server_state.connections):
            transport = connection.transport
            self.server.servers[0].get_loop().call_soon_threadsafe(transport.abort)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Iterator[tuple[Service, str, dict[str, Any]]]:
    settings = ServiceSettings(data=tmp_path_factory.mktemp("page"), auth="off")
    engine = open_database(settings.database_url)
    migrate(engine)
    service = Service(settings, engine, Waiting())
    _, token = create_token(engine, "ada", ["read", "submit"])
    yield service, token, finished_search(service, ("4x", "2x"))
    engine.dispose()


def serve(service: Service, token: str, done: dict[str, Any]) -> Iterator[Served]:
    server = uvicorn.Server(uvicorn.Config(create_app(service), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(f"http://127.0.0.1:{port}", service, token, done, server)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def served(base) -> Iterator[Served]:
    """A server that asks for no token."""
    yield from serve(*base)


@pytest.fixture(scope="module")
def guarded(base) -> Iterator[Served]:
    """The same with tokens."""
    service, *rest = base
    asking = service.settings.model_copy(update={"auth": "required"})
    yield from serve(replace(service, settings=asking), *rest)


@pytest.fixture(scope="module")
def private(base) -> Iterator[Served]:
    """The same with tokens, where everybody sees what is theirs alone."""
    service, *rest = base
    asking = service.settings.model_copy(update={"auth": "required", "private": True})
    yield from serve(replace(service, settings=asking), *rest)


def finished(service: Service, search_id: str) -> Any:
    """A search as the database holds it."""
    return find(service.engine, search_id)._mapping


def running_search(service: Service) -> str:
    """A search that a worker has begun."""
    row, _ = create(service, "ada", NewSearch(budgets=("4x",), space="tiny"), None)
    with service.engine.begin() as connection:
        connection.execute(
            searches.update().where(searches.c.id == row.id).values(status="running")
        )
        events.append(connection, row.id, "status", {"status": "running", "attempt": 1})
    return row.id


@browsing
def test_a_new_user_mends_a_field_starts_a_search_finds_it_and_cancels_it(served, open_page):
    page = open_page(served.url)
    page.get_by_label("Latency budgets").fill("5 parsecs")
    page.get_by_role("button", name="Start the search").click()
    problem = page.locator("#budgets-problem")
    problem.wait_for()
    assert "5 parsecs" in problem.inner_text()
    field = page.get_by_label("Latency budgets")
    assert field.get_attribute("aria-invalid") == "true"
    assert "budgets-problem" in field.get_attribute("aria-describedby")
    assert field.evaluate("node => node === document.activeElement")

    field.fill("3x, 2ms@p95")
    page.get_by_label("Search space").select_option("tiny")
    page.get_by_text("Advanced").click()
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Start the search").click()
    page.get_by_role("heading", name="3x, 2ms@p95 on cpu").wait_for()
    page.get_by_text("Waiting for a worker.").wait_for()
    search_id = page.url.rpartition("/")[2]
    assert served.service.jobs.waiting[-1] == (search_id, 1)

    page.get_by_role("link", name="Searches", exact=True).first.click()
    row = page.get_by_role("row").filter(has_text="3x, 2ms@p95 on cpu")
    assert row.locator(".badge").inner_text() == "queued"
    row.get_by_role("button", name="Cancel").click()
    page.keyboard.press("Escape")  # asks first, and no means no
    row.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the search").click()
    row.locator(".badge.cancelled").wait_for()
    row.get_by_role("button", name="Retry").click()
    row.locator(".badge.queued").wait_for()
    assert served.service.jobs.waiting[-1] == (search_id, 2)


@browsing
def test_a_file_uploaded_from_the_form_is_chosen_as_data(served, open_page, tmp_path):
    file = tmp_path / "My Tickets.csv"
    lines = [f"the printer on floor {n} is out,hardware\nno mail since {n},mail" for n in range(40)]
    file.write_text("text,label\n" + "\n".join(lines) + "\n")
    page = open_page(served.url)
    page.get_by_text("Upload data of your own").click()
    form = page.locator("details.upload[open]")
    form.get_by_role("button", name="Upload").click()
    form.get_by_text("Choose a file first.").wait_for()
    form.get_by_label("File").set_input_files(file)
    assert form.get_by_label("Name").input_value() == "my-tickets"
    form.get_by_role("button", name="Upload").click()
    told = "my-tickets is uploaded and chosen: 80 rows of train; 2 classes: hardware, mail."
    form.get_by_text(told).wait_for()
    assert page.get_by_label("Data", exact=True).input_value() == "my-tickets"


@browsing
def test_a_teacher_uploaded_from_the_form_is_chosen_with_its_classes(served, open_page, tmp_path):
    """Its head calls them LABEL_0 and LABEL_1: the form says what they are."""
    config = BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path / "my-bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    vocabulary = {word: row for row, word in enumerate(words)}
    BertTokenizerFast(vocab=vocabulary).save_pretrained(tmp_path / "my-bert")
    shutil.make_archive(str(tmp_path / "my-bert"), "zip", tmp_path / "my-bert")
    page = open_page(served.url)
    page.get_by_text("Upload a teacher of your own").click()
    form = page.locator("details.upload[open]")
    form.get_by_label("File").set_input_files(tmp_path / "my-bert.zip")
    form.get_by_role("button", name="Upload").click()
    told = "my-bert is uploaded and chosen: bert, 2 layers of 8; 2 classes: LABEL_0, LABEL_1."
    form.get_by_text(told).wait_for(timeout=120_000)
    assert page.get_by_label("Teacher", exact=True).input_value() == "my-bert"
    page.get_by_text("Advanced").click()
    page.get_by_label("The teacher's classes").fill("no, yes")
    kept = served.service.folder("uploads") / "answers"
    kept.mkdir()
    rows = [f"{'a b' if row % 2 else 'b'},{'yes' if row % 3 else 'no'}" for row in range(60)]
    (kept / "train.csv").write_text("\n".join(["text,label", *rows]))
    given = {"owner": "local", "digest": 64 * "1", "about": {}}
    assert keep_upload(served.service, "dataset", "answers", kept, **given)
    page.get_by_label("Data", exact=True).evaluate("node => node.append(new Option('answers'))")
    page.get_by_label("Data", exact=True).select_option("answers")
    page.get_by_role("button", name="Try the teacher on the data").click()
    page.get_by_text("The teacher's accuracy is").wait_for(timeout=120_000)
    page.get_by_text("texts from text, labels from label: 2 classes").wait_for()
    delete_upload(served.service, "dataset", "answers")
    page.get_by_label("Data", exact=True).select_option("pydoc")
    page.get_by_role("button", name="Start the search").click()
    page.wait_for_url("**/#/searches/*")
    asked = httpx.get(f"{served.url}/v1/searches?limit=1").json()["items"][0]["request"]
    assert (asked["teacher"], asked["labels"]) == ("my-bert", ["no", "yes"])


@browsing
def test_a_refusal_of_the_form_is_shown_at_a_field_that_was_folded_away(served, open_page):
    page = open_page(served.url)
    page.get_by_text("Advanced").click()
    page.get_by_label("Priority").fill("5000")
    page.get_by_text("Advanced").click()
    page.get_by_role("button", name="Start the search").click()
    problem = page.locator("#priority-problem")
    problem.wait_for()
    assert "1000" in problem.inner_text()


@browsing
def test_the_front_answers_a_budget_moved_by_mouse_and_by_keys(served, open_page):
    page = open_page(f"{served.url}/#/searches/{served.done['id']}")
    page.get_by_role("heading", name="Budget met").wait_for()
    chosen = page.locator(".chosen-name")
    chosen.wait_for()
    page.locator(".plot-frame .main-svg").first.wait_for()
    assert served.done["models"][0]["architecture"]["hidden_size"] > 0
    before = chosen.inner_text()

    page.locator(".grip").scroll_into_view_if_needed()
    line = page.locator(".budget-line").bounding_box()
    middle = (line["x"] + line["width"] / 2, line["y"] + line["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 180, middle[1], steps=8)
    page.mouse.up()
    page.wait_for_function("text => document.querySelector('.chosen-name')?.textContent !== text",
                           arg=before)  # fmt: skip
    dragged = float(page.get_by_label("Budget in ms").input_value())
    assert dragged < served.done["models"][0]["budget_ms"]
    answer = page.locator(".answer")
    assert answer.get_attribute("aria-live") == "polite"
    predicted = float(re.search(r"([\d.]+) ms", answer.inner_text())[1])
    assert predicted <= dragged * 1.01

    faster = chosen.inner_text()
    page.get_by_label("Latency budget, p50").focus()
    page.keyboard.press("End")
    page.wait_for_function("text => document.querySelector('.chosen-name')?.textContent !== text",
                           arg=faster)  # fmt: skip
    assert float(page.get_by_label("Budget in ms").input_value()) > 7

    page.get_by_label("Budget in ms").fill("0.0001")
    page.locator(".answer .field-problem").wait_for()


@browsing
def test_a_search_is_followed_live_through_a_disconnection_to_its_result(served, open_page):
    search_id = running_search(served.service)
    record = lambda kind, data: events.record(served.service.engine, search_id, kind, data)  # noqa: E731
    page = open_page(f"{served.url}/#/searches/{search_id}")
    record("stage", {"stage": "teacher", "state": "began"})
    progress = {"stage": "teacher", "title": "tuning", "done": 3, "total": 12}
    record("progress", progress)
    page.get_by_text("3/12").wait_for()
    assert page.locator(".stages progress").evaluate("node => node.value") == 0.25
    record("progress", progress | {"done": 0.621, "total": 1})
    page.get_by_text("62.1%").wait_for()
    record("line", {"text": "first line", "level": "info"})
    page.get_by_text("first line").wait_for()

    with page.expect_request("**/events") as resumed:
        served.drop_connections()
    assert int(resumed.value.headers["last-event-id"]) > 0
    record("line", {"text": "<img src=x onerror=alert(1)>", "level": "warning"})
    page.get_by_text("<img src=x onerror=alert(1)>").wait_for()
    assert page.locator(".log li").all_inner_texts() == [
        "first line",
        "<img src=x onerror=alert(1)>",
    ]
    best = {"budget": "4x", "latency_ms": 1.5, "score": 0.9, "architecture": "4x192 6h"}
    record("search", {"scored": 5, "planned": 48, "front_size": 3, "per_minute": 60.0,
                      "seconds_left": 43.0, "expected_gain": 0.01, "best": [best]})  # fmt: skip
    page.get_by_role("cell", name="4x192 6h").wait_for()
    assert finish(served.service.engine, search_id, 1, error="the device went away")
    page.locator(".badge.failed").wait_for()
    page.get_by_text("the device went away").wait_for()


@browsing
def test_a_download_is_what_the_service_measured(served, open_page, tmp_path):
    page = open_page(f"{served.url}/#/searches/{served.done['id']}")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the model").click()
    _check_archive(download.value, served.done["models"][0], tmp_path)


@browsing
def test_a_token_signs_in_for_the_list_the_download_and_the_report(guarded, open_page, tmp_path):
    page = open_page(f"{guarded.url}/#/searches")
    page.get_by_label("Token").fill("tb_wrong")
    page.keyboard.press("Enter")
    page.get_by_text("unknown, expired or revoked").wait_for()
    page.get_by_label("Token").fill(guarded.token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Signed in as ada").wait_for()
    page.get_by_role("link", name="4x, 2x on cpu").click()

    with page.expect_download() as download:
        page.get_by_role("button", name="Download the model").click()
    _check_archive(download.value, guarded.done["models"][0], tmp_path)
    with page.expect_popup() as report:
        page.get_by_role("button", name="Full report").click()
    report.value.get_by_role("heading", name="Budget met").wait_for()
    assert report.value.evaluate("getComputedStyle(document.body).maxWidth") == "1088px"

    page.reload()
    page.get_by_text("Signed in as ada").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Token").wait_for()
    assert page.evaluate("sessionStorage.length") == 0


def _check_archive(download: Any, model: dict[str, Any], folder: Path) -> None:
    saved = folder / download.suggested_filename
    assert saved.suffix == ".zip"
    download.save_as(saved)
    assert hashlib.sha256(saved.read_bytes()).hexdigest() == model["archive"]["sha256"]


@browsing
def test_models_are_compared_side_by_side_and_the_choice_is_in_the_address(served, open_page):
    page = open_page(f"{served.url}/#/compare?model={served.done['id']}.0")
    page.get_by_text("Choose two models or more.").wait_for()
    page.get_by_role("checkbox", name="2x on cpu").check()
    page.get_by_role("heading", name="Side by side").wait_for()
    assert page.url.count("model=") == 2
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="measured"))
    assert row.get_by_role("cell").count() == 2
    page.locator(".plot .main-svg").nth(2).wait_for()


def signed_in(open_page: Any, served: Served, owner: str, scopes: list[Scope], view: str) -> Any:
    """The page as a user sees it."""
    page = open_page(f"{served.url}/#/{view}")
    page.get_by_label("Token").fill(create_token(served.service.engine, owner, scopes)[1])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text(f"Signed in as {owner}").wait_for()
    return page


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
def test_words_saved_while_a_search_runs_leave_one_stream_and_what_is_typed(served, open_page):
    search_id = running_search(served.service)
    page = open_page(f"{served.url}/#/searches/{search_id}")
    for number in range(7):  # a browser opens six connections to one server
        if not page.locator("details.words").evaluate("node => node.open"):
            page.get_by_text("Name and note").click()
        page.get_by_label("Name", exact=True).fill(f"name {number}")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("heading", name=f"name {number}").wait_for()
    page.get_by_text("Name and note").click()
    page.get_by_label("Note").fill("half a senten")
    assert finish(served.service.engine, search_id, 1, error="the device went away")
    page.locator(".badge.failed").wait_for()
    assert page.get_by_label("Note").input_value() == "half a senten"
    page.get_by_label("Note").blur()
    page.get_by_text("the device went away").wait_for()


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


@browsing
def test_who_waits_is_told_what_comes_first_and_how_long_such_searches_take(private, open_page):
    service = private.service
    with service.engine.begin() as connection:
        row = {"name": "busy", "seen": time.time() + 3600, "about": {}}
        connection.execute(workers.insert().values(**row))
    long_one = create(service, "eve", NewSearch(budgets=("4x",), recipe="standard"), None)[0].id
    begin(service.engine, long_one, 1)
    with service.engine.begin() as connection:
        mine = (happened.c.search_id == long_one) & (happened.c.number == 2)
        connection.execute(happened.update().where(mine).values(created=time.time() - 1200))
    finish(service.engine, long_one, 1, models=[])
    ada = signed_in(open_page, private, "ada", ["read", "submit"], "new")
    ada.get_by_label("Recipe").select_option("standard")
    ada.get_by_text(
        "The last search by this recipe took 20 min here, with what it could reuse."
    ).wait_for()
    ada.get_by_role("button", name="Start the search").click()
    ada.locator(".foreseen").filter(has_text="took 20 min here").wait_for()


@browsing
def test_what_is_to_be_said_against_a_model_and_its_data_is_shown(served, open_page):
    search = finished_search(served.service, ("4x",), seed=4)
    says = "the model has learnt nothing: a constant answer scores 62.0%"
    models = [{**search["models"][0], "above_baseline": False, "warnings": [says]}]
    with served.service.engine.begin() as connection:
        row = searches.update().where(searches.c.id == search["id"])
        connection.execute(row.values(models=models))
    page = open_page(f"{served.url}/#/searches/{search['id']}")
    page.get_by_text(says).wait_for()
    page.get_by_text("12 texts stand in train and in test").wait_for()
    page.get_by_text("4,000 train, 500 validation, 500 test").wait_for()
    page.get_by_text("columns id, url").wait_for()
    row = page.get_by_role("row").filter(has_text="question")
    assert "60.0%" in row.inner_text()


@browsing
def test_timings_that_do_not_repeat_are_warned_of(served, open_page):
    search = finished_search(served.service, ("4x",), seed=4)["id"]
    page = open_page(f"{served.url}/#/searches/{search}")
    page.locator(".answer .facts").wait_for()
    assert page.get_by_text("are unsteady").is_hidden()
    report = served.service.folder("results") / search / "0" / "report.json"
    content = json.loads(report.read_text())
    content["predictor_errors"]["floor_mape_percent"] = 9.34
    report.write_text(json.dumps(content))
    page.reload()
    page.get_by_text("Timings on cpu are unsteady").wait_for()
    assert "9.3% on average" in page.get_by_text("are unsteady").inner_text()


@browsing
def test_the_keyboard_alone_starts_a_search_and_moves_between_models(served, open_page):
    page = open_page(served.url)
    page.get_by_label("Latency budgets").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "budgets":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Control+A")
    page.keyboard.type("6x")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="6x on cpu").wait_for()

    page.goto(f"{served.url}/#/searches/{served.done['id']}")
    tab = page.get_by_role("tab", name="4x on cpu")
    tab.focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", name="2x on cpu").get_attribute("aria-selected") == "true"
    assert page.get_by_role("tabpanel").get_by_text("3.73 ms").first.is_visible()


@browsing
def test_every_view_fits_a_phone_has_labels_and_is_readable_by_day_and_night(served, open_page):
    done = served.done["id"]
    views = {
        "#/new": "form.start",
        "#/searches": ".list table",
        f"#/searches/{done}": ".answer .facts",
        f"#/compare?model={done}.0&model={done}.1": ".plot .main-svg",
        "#/devices": ".snippet",
        "#/uploads": "h2",
    }
    page = open_page(served.url, viewport=PHONE, has_touch=True)
    for view, there in views.items():
        page.emulate_media(color_scheme="light")  # before plots are drawn, which follow it later
        page.goto(f"{served.url}/{view}")
        page.locator(there).first.wait_for()
        page.wait_for_function(DRAWN)
        page.evaluate("document.querySelectorAll('details').forEach(one => (one.open = true))")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"{view} is {width} px wide"
        assert page.evaluate(UNNAMED) == [], view
        grounds, others = [], []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(TOO_FAINT) == [], (view, scheme)
            grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            page.wait_for_function(REDRAWN, arg=others)
            others = page.evaluate(INKS)
        light, dark = (sum(map(int, re.findall(r"\d+", ground))) for ground in grounds)
        assert dark < 150 < 600 < light


DRAWN = """() => [...document.querySelectorAll('.plot')]
  .every(one => one.querySelector('.xtick text'))"""
"""Whether no plot is still to come."""

INKS = "[...document.querySelectorAll('.xtick text')].map(one => getComputedStyle(one).fill)"
"""The colours of the plots' ticks."""

REDRAWN = f"others => {INKS}.every((ink, at) => ink !== others[at])"
"""Whether all ticks have other colours than before; plots follow a scheme a frame later."""

UNNAMED = """() => {
  const name = node => node.labels?.length || node.getAttribute('aria-label')
    || node.getAttribute('aria-labelledby');
  const inputs = [...document.querySelectorAll('input, select, textarea, progress')]
    .filter(node => !name(node));
  const silent = [...document.querySelectorAll('button, a')].filter(node =>
    !node.textContent.trim() && !node.getAttribute('aria-label'));
  const images = [...document.querySelectorAll('img')].filter(node => !node.hasAttribute('alt'));
  const ids = [...document.querySelectorAll('[id]')].map(node => node.id);
  const twice = ids.filter((id, at) => ids.indexOf(id) !== at);
  const headings = document.querySelectorAll('h1').length === 1 ? [] : ['one h1 is wanted'];
  return [...inputs, ...silent, ...images].map(node => node.outerHTML).concat(twice, headings);
}"""
"""What a screen reader could not name, and ids or titles that are not unique."""

TOO_FAINT = """() => {
  const parse = text => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return {rgb: [r, g, b], a};
  };
  const over = (top, below) => top.rgb.map((v, i) => v * top.a + below[i] * (1 - top.a));
  const ground = node => {
    if (!node) return [255, 255, 255];
    const own = parse(getComputedStyle(node).backgroundColor);
    return own.a === 1 ? own.rgb : over(own, ground(node.parentElement));
  };
  const light = rgb => {
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = rgb.map(v => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || node.closest('svg, noscript, script')) continue;
    if (!node.checkVisibility() || node.closest(':disabled')) continue;
    const style = getComputedStyle(node), below = ground(node);
    const [a, b] = [light(over(parse(style.color), below)), light(below)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), bold = style.fontWeight >= 700;
    const needed = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < needed) found.push(`${ratio.toFixed(2)}: ${walker.currentNode.data.trim()}`);
  }
  return found;
}"""
"""Texts whose contrast is below WCAG 2.2's AA (1.4.3)."""
