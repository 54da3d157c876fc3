from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from html.parser import HTMLParser

import numpy as np
import pytest

from nas.data.summary import ClassShare, DataSummary, ValueRange
from nas.report import plots
from nas.report.figures import (
    dimensions_figure,
    evaluations_needed,
    front_figure,
    hypervolume_figure,
)
from nas.report.page import duration, error_rows, figure_of, quality, render, rows, verdict, write
from nas.report.record import (
    Calibration,
    Candidate,
    Evaluated,
    Report,
    ShownFront,
    read_front,
    report_of,
)
from nas.search.front import Point
from nas.tasks.metrics import score_in_words
from supernet.architecture import Architecture
from supernet.errors import NasError


def architecture(num_layers: int, hidden_size: int) -> Architecture:
    return Architecture.uniform(
        num_layers=num_layers,
        hidden_size=hidden_size,
        num_heads=hidden_size // 32,
        intermediate_size=hidden_size * 2,
    )


FRONT = tuple(
    Point(architecture(layers, hidden), latency, score)
    for layers, hidden, latency, score in [
        (1, 64, 0.52, 0.722),
        (1, 96, 0.7, 0.804),
        (2, 128, 1.4, 0.818),
        (3, 160, 1.9, 0.871),
        (3, 192, 2.25, 0.886),
        (4, 192, 3.4, 0.898),
        (4, 256, 6.3, 0.922),
        (3, 384, 10.7, 0.94),
        (6, 384, 18.3, 0.954),
    ]
)


@pytest.fixture(scope="module")
def report() -> Report:
    return Report(
        budget_ms=2.3,
        budget_percentile=50,
        target={
            "device": "cpu",
            "runtime": "onnxruntime",
            "num_threads": 2,
            "dtype": "float32",
            "workload": {"batch_size": 1, "sequence_length": 64},
        },
        architecture=architecture(3, 160),
        predicted_p50_ms=1.9,
        measured_p50_ms=2.1,
        measured_p95_ms=2.6,
        teacher_p50_ms=8.6,
        teacher_p95_ms=9.1,
        metric="accuracy",
        score=0.941,
        teacher_score=0.962,
        split="test",
        parameters=6_213_446,
        teacher_parameters=22_861_062,
        stages={
            "teacher": 0.0,
            "supernet": 510.2,
            "profile": 61.0,
            "search": 8.4,
            "develop": 95.5,
            "export": 4.2,
        },
        seed=0,
        versions={"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0"},
        data="trec <question types>, 5,452 texts & 6 classes",
        device={"cpu": "Some processor at 2.5 GHz", "cores": 2, "memory_gib": 23.4},
        settings={"recipe": "quick", "supernet": {"epochs": 4, "learning_rate": 3e-4}},
        front=FRONT,
        evaluations=(
            *(Evaluated(p.architecture, p.latency_ms, p.score, p.score, True) for p in FRONT),
            Evaluated(FRONT[0].architecture, 0.5, 0.99, 0.99, False),
            Evaluated(FRONT[0].architecture, 5.0, 0.8, 0.8, True),
        ),
        candidates=(
            Candidate(architecture(3, 192), 2.25, 2.41, False),
            Candidate(architecture(3, 160), 1.9, 2.1, True),
        ),
        calibration=tuple(
            Calibration(predicted, measured)
            for predicted, measured in [(0.6, 0.62), (1.5, 1.4), (3.0, 3.3), (7.0, 6.8), (17, 18.5)]
        ),
        predictor_errors={
            "mape_percent": 4.1,
            "within_10_percent": 0.95,
            "by_latency": {
                "0.0273 to 1.4 ms": {"models": 3, "mape_percent": 5.2, "within_10_percent": 0.667}
            },
        },
        baseline_score=0.276,
        above_baseline=True,
        teacher_above_baseline=True,
        data_summary=DataSummary(
            splits={"train": 4907, "validation": 545, "test": 500},
            text_columns=("question",),
            label_column="kind",
            unread_columns=tuple(f"column {number}" for number in range(25)),
            ignored_files=("notes.csv",),
            num_classes=23,
            classes=tuple(ClassShare(f"class {number}", 0.04) for number in range(20)),
            warnings=("texts that stand in train as well: 12 of test",),
        ),
    )


@pytest.fixture(scope="module")
def text(report: Report) -> str:
    return render(report)


def test_json_holds_every_field_and_what_follows_from_them(report, tmp_path):
    write(report, tmp_path / "out")

    content = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert set(content) == {field.name for field in fields(Report)} | {"met", "speedup"}
    assert Architecture.from_dict(content["architecture"]) == report.architecture
    assert content["speedup"] == pytest.approx(8.6 / 2.1)
    assert content["met"] is True
    assert content["front"][2] == {
        "architecture": FRONT[2].architecture.to_dict(),
        "latency_ms": 1.4,
        "score": 0.818,
    }
    assert content["evaluations"][9] == {
        "architecture": FRONT[0].architecture.to_dict(),
        "latency_ms": 0.5,
        "score": 0.99,
        "smoothed_score": 0.99,
        "within_caps": False,
    }
    assert content["candidates"][0]["met"] is False
    assert content["settings"]["supernet"]["epochs"] == 4


def test_result_is_said_in_the_words_of_the_user(report):
    assert verdict(report) == "Budget met: 2.1 ms measured against 2.3 ms asked (p50)."
    assert quality(report) == "94.1% accuracy, 97.8% of the teacher's, at 4.1x its speed."


def test_budget_is_held_against_its_own_percentile(report):
    at_p95 = replace(report, budget_percentile=95)

    assert not at_p95.met
    assert verdict(at_p95) == "Budget missed: 2.6 ms measured against 2.3 ms asked (p95)."


def test_score_without_a_meaningful_share_names_the_teachers(report):
    correlated = replace(report, metric="matthews", score=0.12, teacher_score=-0.02)

    assert quality(correlated).startswith("0.120 matthews, the teacher's is -0.020,")
    assert "-0.020" in render(correlated)


class Page(HTMLParser):
    """Collects a page's text, ids of its tags, and every address in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in {"src", "href", "xlink:href", "action"}
        ]

    def handle_data(self, data):
        self.words.append(data.strip())


def test_page_needs_nothing_else(text):
    page = Page(text)

    assert all(address.startswith("#") for address in page.addresses)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert page.tags.count("svg") == 4
    assert not re.search(r"url\((?!#)|@import", text)


def test_page_shows_what_was_tried_and_with_what(text):
    words = Page(text).words

    for expected in (
        "3x192 6h q192 f384",  # tried first, and over the budget
        "2.41 ms",
        "6.21 M",
        "3.7x",
        "supernet / learning rate",
        "0.0003",
        "8 min 30 s",
        "reused",
        "workload / sequence length",
        "Some processor at 2.5 GHz",
        "2.13.0",
        "budget, 2.3 ms",
        "latency, p50 (ms)",
        "accuracy (%)",
        "intermediate size",
        "hypervolume (% of the final)",
    ):
        assert expected in words


def test_page_tells_what_was_read(report, text):
    words = Page(text).words

    for expected in (
        "4,907 examples",
        "question",
        ", ".join(f"column {number}" for number in range(20)) + " and 5 more",
        "notes.csv",
        "23 classes, shares of train",
        "class 19",
        "3 more",
        "20.0%",
        "texts that stand in train as well: 12 of test",
        "27.6%",  # of a constant answer
    ):
        assert expected in words
    values = replace(
        report.data_summary, num_classes=0, classes=(), values=ValueRange(1.0, 5.0, 3.2)
    )
    assert "from 1 to 5, 3.2 on average" in Page(render(replace(report, data_summary=values))).words


def test_errors_are_a_table_of_ranges(report, text):
    def words(page: str) -> str:
        return " ".join(" ".join(Page(page).words).split())

    columns = "measured latency models mean error within 5% within 10%"
    assert f"{columns} all 4.1% 95% 0.0273 to 1.4 ms 3 5.2% 67%" in words(text)
    assert "mape" not in text
    errors = report.predictor_errors | {"floor_models": 1200, "floor_mape_percent": 1.24}
    assert list(error_rows(errors)) == [
        ("all", "", "4.1%", "", "95%"),
        ("0.0273 to 1.4 ms", "3", "5.2%", "", "67%"),
        ("measured again", "1,200", "1.2%", "", ""),
    ]
    told = render(replace(report, predictor_errors=errors | {"margin_95_percent": 8.21}))
    assert "19 of 20 models take at most 8.2% more" in words(told)


def test_a_result_at_chance_is_no_share_of_its_teacher(report):
    nothing = replace(
        report, score=0.28, teacher_score=0.276, above_baseline=False, warnings=("it <knows> none",)
    )

    told = quality(nothing)
    assert (
        told
        == "28.0% accuracy, the teacher's is 27.6%, a constant answer's 27.6%, at 4.1x its speed."
    )
    assert nothing.share_of_teacher is None
    assert "Warning: it <knows> none." in Page(render(nothing)).words
    under = replace(report, teacher_above_baseline=False)
    assert "of the teacher's" not in quality(under)


def test_a_report_without_what_older_versions_did_not_tell(report, tmp_path):
    news = ("baseline_score", "above_baseline", "teacher_above_baseline", "data_summary")
    old = replace(report, **dict.fromkeys(news))

    assert quality(old) == quality(report)
    assert "Data" not in Page(render(old)).words
    content = {name: value for name, value in report.to_dict().items() if name not in news}
    del content["warnings"]
    (tmp_path / "report.json").write_text(json.dumps(content))
    assert read_front(tmp_path).points == report.front


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "Expecting property name"),
        ("[1]", "Input should be a dictionary"),
        ('{"front": [{}]}', "budget_ms: Field required"),
    ],
)
def test_a_damaged_report_is_told_in_one_line(tmp_path, content, fault):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(NasError, match=rf"^{tmp_path}/report.json is damaged: .*{fault}[^\n]*$"):
        read_front(tmp_path)


def test_a_report_is_read_back_whole(report):
    assert report_of(json.loads(json.dumps(report.to_dict()))) == report


def test_page_escapes_what_users_name(report):
    hostile = replace(report, data="<script>alert(1)</script>", settings={"<b>": "<i>&"})

    text = render(hostile)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "<b>" not in text


def test_page_of_a_search_without_front_and_calibration(report):
    nothing = dict.fromkeys(("front", "evaluations", "candidates", "calibration"), ())
    bare = replace(report, **nothing, predictor_errors={}, stages={})
    page = Page(render(bare))

    assert verdict(bare) in page.words
    assert page.tags.count("svg") == 2


def test_equal_reports_give_equal_pages(report, text):
    assert render(report) == text


def test_what_is_drawn_is_read_back(report, tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(report.to_dict()))
    shown = read_front(tmp_path)

    assert shown.points == report.front
    assert shown.evaluations == report.evaluations
    assert shown.points[shown.chosen].architecture == report.architecture
    assert shown.model == (2.1, 0.941)


def test_a_front_is_read_from_a_report_that_lists_no_evaluations(report, tmp_path):
    content = report.to_dict()
    del content["evaluations"]
    (tmp_path / "report.json").write_text(json.dumps(content))

    assert read_front(tmp_path).points == report.front
    with pytest.raises(NasError, match="whose search lists its evaluations"):
        hypervolume_figure([("", read_front(tmp_path))])


def test_the_course_of_a_search_leaves_out_what_is_beyond_the_caps(report, text):
    """That one would have been the best by far; it counts as an evaluation all the same."""
    course = hypervolume_figure([("", ShownFront.of(report))]).axes[0].lines[0]

    assert list(course.get_xdata()) == list(range(1, 12))
    assert course.get_ydata()[8:] == pytest.approx([1.0, 1.0, 1.0])
    assert "of 11 evaluations" in text


def test_the_evaluations_needed_are_the_fewest_that_reach_nearly_all(report):
    shown = ShownFront.of(report)
    needed = evaluations_needed(shown)
    course = hypervolume_figure([("", shown)]).axes[0].lines[0].get_ydata()

    assert 1 < needed < 9
    assert course[needed - 2] < 0.99 <= course[needed - 1]


def test_a_figure_marks_what_is_asked_for(report):
    shown = ShownFront.of(report)

    assert dimensions_figure(shown).axes[0].lines[1].get_xdata().tolist() == [1.9]
    assert dimensions_figure(shown, [0, 2]).axes[0].lines[1].get_xdata().tolist() == [0.52, 1.4]
    budgets = [plots.BudgetMark("a", 1.0, 1), plots.BudgetMark("b", 2.0, 3)]
    assert [text.get_text() for text in front_figure(shown, budgets).axes[0].texts] == ["a", "b"]


def test_a_failed_write_leaves_the_old_report(report, tmp_path):
    write(report, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    with pytest.raises(ValueError, match="not JSON compliant"):
        write(replace(report, predictor_errors={"mape": float("nan")}), tmp_path)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("budget_ms", 0.0),
        ("measured_p50_ms", float("nan")),
        ("teacher_p50_ms", float("inf")),
        ("parameters", 0),
        ("score", float("nan")),
        ("budget_percentile", 99),
    ],
)
def test_impossible_figures_are_refused_by_name(report, name, value):
    with pytest.raises(NasError, match=f"{name} must be .*, not {value}"):
        replace(report, **{name: value})


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.44, "0.4 s"),
        (38.2, "38 s"),
        (485.0, "8 min 5 s"),
        (7800, "2 h 10 min"),
        (59.9, "1 min 0 s"),
    ],
)
def test_durations_read_as_people_say_them(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "yes"),
        (None, "none"),
        (1234567, "1,234,567"),
        (0.00031, "0.00031"),
        (2.149, "2.15"),
        (12345.6, "12,346"),
        ([1, 2.5], "1, 2.5"),
        ("cpu", "cpu"),
    ],
)
def test_figures_in_tables(value, words):
    assert figure_of(value) == words


def test_scores_are_percentages_only_where_they_are_shares():
    assert score_in_words("accuracy", 0.941) == "94.1%"
    assert score_in_words("matthews", 0.6123) == "0.612"


def test_nested_settings_are_named_by_their_paths():
    assert list(rows({"a": 1, "b": {"c": {"0.5": 2}}})) == [("a", 1), ("b / c / 0.5", 2)]


def test_front_plot_draws_the_best_score_within_each_latency():
    # The second architecture is dominated, and the order is not that of latency.
    figure = plots.front_plot([4.0, 2.0, 1.0], [0.9, 0.7, 0.8], metric="accuracy")

    (line,) = figure.axes[0].lines
    assert np.array_equal(line.get_xdata(), [1.0, 2.0, 4.0])
    assert np.array_equal(line.get_ydata(), [0.8, 0.8, 0.9])


@pytest.mark.parametrize(("low", "high"), [(0.5, 18.0), (1.2, 1.9), (0.031, 0.044), (2.0, 2.0)])
def test_latency_axis_has_labels_on_every_range(low, high):
    figure = plots.front_plot([low, high], [0.5, 0.6], metric="accuracy")
    axes = figure.axes[0]

    left, right = axes.get_xlim()
    assert sum(left <= tick <= right for tick in axes.get_xticks()) >= 2


def test_front_plot_names_each_of_several_budgets_where_it_stands():
    budgets = [plots.BudgetMark("phone", 1.5, 0), plots.BudgetMark("server", 3.0, 1)]
    figure = plots.front_plot([1.0, 2.0, 4.0], [0.5, 0.6, 0.7], metric="f1", budgets=budgets)
    axes = figure.axes[0]

    named = {text.get_text(): text.xy[0] for text in axes.texts}
    assert named == {"phone": 1.5, "server": 3.0}
    rings = next(c for c in axes.collections if c.get_label() == "chosen")
    assert rings.get_offsets().tolist() == [[1.0, 0.5], [2.0, 0.6]]


def test_front_plot_saves_as_an_image(tmp_path):
    figure = plots.front_plot(
        [1.0, 2.0], [0.5, 0.6], metric="matthews", budgets=[plots.BudgetMark("2.5 ms", 2.5, 1)]
    )
    figure.savefig(tmp_path / "front.png")

    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")


def test_inline_svg_leaves_colours_to_the_page():
    svg = plots.inline_svg(
        plots.front_plot([1.0, 2.0], [0.5, 0.6], metric="f1"), 'quoted "so" & <so>'
    )

    assert 'aria-label="quoted &quot;so&quot; &amp; &lt;so>"' in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg)
    assert set(re.findall(r"var\(--([a-z]+)\)", svg)) <= set(plots.PALETTE)
