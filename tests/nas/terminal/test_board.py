"""What a person sees of a search that runs: in a terminal a table, in a file a few lines."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from nas.search.front import Point
from nas.search.progress import SearchProgress
from nas.terminal.board import Moment, board
from nas.terminal.progress import Display
from supernet.architecture import Architecture, Layer

MIXED = Architecture(192, (Layer(6, 192, 384), Layer(4, 128, 768), Layer(2, 64, 256)))
FAST = Architecture.uniform(num_layers=2, hidden_size=64, num_heads=2, intermediate_size=128)
BUDGETS = ["1 ms", "[phone]", "9x"]
MOMENT = SearchProgress(
    scored=50,
    planned=104,
    seconds=80.0,
    best=(Point(FAST, 0.7123, 0.86241), Point(MIXED, 2.31, 0.9312), None),
    front_size=12,
    expected_gain=0.00123,
    cached=10,
)


def console(*, terminal: bool, width: int = 100) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=terminal, record=True)


def drawn(progress: SearchProgress, width: int = 100) -> list[str]:
    out = console(terminal=True, width=width)
    out.print(board("Search", BUDGETS, Moment.model_validate(progress)))
    return [line.rstrip() for line in out.export_text().splitlines()]


def written(*moments: SearchProgress) -> list[str]:
    out = console(terminal=False)
    with Display(out).board("Search", BUDGETS) as show:
        for moment in moments:
            show(moment)
    return out.export_text().splitlines()


def test_pace_and_time_left_leave_out_what_the_cache_held():
    assert MOMENT.per_minute == pytest.approx(30)
    assert MOMENT.seconds_left == pytest.approx(108)


@pytest.mark.parametrize("changed", [{"scored": 10}, {"seconds": 0.0}])
def test_no_pace_before_the_first_evaluation(changed):
    early = replace(MOMENT, **changed)
    assert early.per_minute is None
    assert early.seconds_left is None


def test_no_time_is_left_of_a_plan_that_is_exceeded():
    assert replace(MOMENT, planned=40).seconds_left == 0


def test_the_table_has_a_row_for_each_budget():
    title, facts, _heading, fast, phone, none = drawn(MOMENT)

    assert title.startswith("Search")
    assert title.endswith("0:01:48 left")
    assert facts == (
        "50/104 evaluations, 30 a minute, 12 on the front, next expected to gain 0.0012"
    )
    assert fast.split(maxsplit=4) == ["1", "ms", "0.712", "ms", f"0.8624  {FAST}"]
    assert phone.split(maxsplit=3) == ["[phone]", "2.31", "ms", f"0.9312  {MIXED}"]
    assert none.split(maxsplit=1) == ["9x", "nothing yet"]


def test_what_is_not_known_is_not_shown():
    _title, facts, *_ = drawn(replace(MOMENT, expected_gain=None, seconds=0.0))

    assert facts == "50/104 evaluations, 12 on the front"


def test_in_a_narrow_terminal_only_architectures_are_cut():
    lines = drawn(MOMENT, width=50)

    assert max(map(len, lines)) <= 50
    assert any(line.startswith("[phone]    2.31 ms  0.9312  3x192") for line in lines)
    assert any(line.endswith("…") for line in lines)


def test_a_terminal_shows_the_last_moment_and_then_clears_it():
    out = console(terminal=True)
    with Display(out).board("Search", BUDGETS) as show:
        show(replace(MOMENT, scored=49))
        show(MOMENT)

    assert isinstance(out.file, io.StringIO)
    drawn_last, _, cleared = out.file.getvalue().rpartition("nothing yet")
    assert "50/104" in drawn_last
    assert cleared.count("\x1b[2K") == 6  # as many lines as the table has


def test_a_file_gets_a_line_at_each_tenth():
    moments = [replace(MOMENT, scored=scored) for scored in range(0, 105, 2)]
    begin, *lines = written(*moments)

    assert begin == "Search ..."
    assert len(lines) == 10
    assert lines[0].startswith("Search: 12/104 evaluations, ")
    assert lines[-1].startswith("Search: 104/104 evaluations, ")
    assert lines[3].endswith(
        f"1 ms: 0.712 ms, 0.8624, {FAST}; [phone]: 2.31 ms, 0.9312, {MIXED}; 9x: nothing yet"
    )


def test_an_empty_plan_is_no_trouble():
    empty = SearchProgress(0, 0, 0.0, (None, None, None), 0)

    assert written(empty) == ["Search ..."]
    assert drawn(empty)[1] == "0/0 evaluations, 0 on the front"
