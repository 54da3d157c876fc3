"""A search and its models on the page: followed live, asked, compared, downloaded."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from nas.service.database.tables import searches
from nas.service.searches import events
from nas.service.searches.lifecycle import finish
from tests.nas.service.browsing import browsing
from tests.nas.service.live import wait_for
from tests.nas.service.page.servers import running_search
from tests.nas.service.seeded import finished_search


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

    def predicted() -> float:
        return float(re.search(r"([\d.]+) ms", answer.inner_text())[1])

    wait_for(lambda: predicted() <= dragged * 1.01)  # the last of several answers

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
