"""What a new user does: `nas serve`, the page, a search on the embedded data, its model."""

from __future__ import annotations

import zipfile

import pytest

pytest.importorskip("dbos", reason="needs tailorbert[service]")

from tests.nas.service.browsing import browsing
from tests.nas.service.serving import serving

MINUTES = 10 * 60_000


@browsing
def test_from_an_empty_service_to_a_model_that_loads(tmp_path, open_page):
    with serving(tmp_path) as served:
        page = open_page(served.url)
        page.get_by_label("Latency budgets").fill("50ms")  # a speed-up hangs on a long profile
        page.get_by_label("Recipe").select_option("smoke")
        page.get_by_label("Search space").select_option("tiny")
        assert page.get_by_label("Data", exact=True).input_value() == "pydoc"
        page.get_by_role("button", name="Start the search").click()

        page.get_by_role("heading", name="50ms on cpu").wait_for()
        page.locator(".stages progress").first.wait_for(timeout=MINUTES)
        page.get_by_role("heading", name="Budget met").wait_for(timeout=MINUTES)
        chosen = page.locator(".chosen-name")
        chosen.wait_for()
        best = chosen.inner_text()

        page.get_by_label("Latency budget, p50").focus()
        page.keyboard.press("Home")  # the fastest of all: another one, or none is within
        page.wait_for_function(
            "text => document.querySelector('.chosen-name')?.textContent !== text", arg=best
        )

        with page.expect_download() as download:
            page.get_by_role("link", name="Download the model").click()
        saved = tmp_path / "model.zip"
        download.value.save_as(saved)
        with zipfile.ZipFile(saved) as archive:
            archive.extractall(tmp_path / "fetched")

        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        import supernet.student  # noqa: F401 - transformers learns the models' type from it

        folder = tmp_path / "fetched" / "model"
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        logits = model(**tokenizer("Parse a date from a string.", return_tensors="pt")).logits
        assert logits.shape == (1, model.config.num_labels)
        assert model.config.num_labels > 2
