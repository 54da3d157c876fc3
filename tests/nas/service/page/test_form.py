"""The form that starts a search, used in a real browser against a real server."""

from __future__ import annotations

import shutil
import time

import httpx2
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from nas.service.database.tables import events as happened
from nas.service.database.tables import workers
from nas.service.searches.lifecycle import begin, create, finish
from nas.service.searches.requests import NewSearch
from nas.service.uploads.kept import delete_upload, keep_upload
from nas.tasks.kinds import METRICS
from tests.nas.service.browsing import browsing
from tests.nas.service.page.servers import signed_in


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
    offered = page.get_by_label("Metric").locator("option").all_inner_texts()
    assert offered == ["what suits the labels", *METRICS]
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
    asked = httpx2.get(f"{served.url}/v1/searches?limit=1").json()["items"][0]["request"]
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
