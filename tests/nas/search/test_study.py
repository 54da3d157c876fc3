"""A study in a database gives back the scores of a search whose driver was lost."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("optuna", reason="needs tailorbert[optuna]")

import optuna
from optuna.trial import TrialState

from nas.search.constraints import FloatArray, Limits
from nas.search.evaluator import Failed
from nas.search.goals import Goal
from nas.search.study import SearchStudy
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.configs import load_space
from supernet.errors import NasError
from supernet.space import SearchSpace
from tests.nas.conftest import ENCODED, PASSWORD

ROOT = Path(__file__).parents[3]
TINY = load_space("tiny")
LAYERED = SearchSpace.from_dict(TINY.to_dict() | {"name": "layered", "uniform": False})


def latency(batch: ArchitectureBatch) -> FloatArray:
    width = batch.over_layers(4 * batch.qkv_size + 2 * batch.intermediate_size)
    return 0.1 + 0.05 * batch.num_layers + 1e-6 * batch.hidden_size * width


GOAL = Goal(latency, Limits(0.18))
ARCHITECTURES = [a for block in TINY.enumerate() for a in block][:8]
SCORES = [0.5 + 0.01 * index for index in range(8)]


def study(url: str, **changed) -> SearchStudy:
    options = {
        "name": "tiny",
        "space": TINY,
        "goals": {"cpu": [GOAL]},
        "supernet": "s",
        "data": "d",
    }
    return SearchStudy(url, **options | changed)


def trials(url: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="tiny", storage=url).trials


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/searches {{1}}.db"
    return request.getfixturevalue("postgres_database")


def test_a_lost_search_recalls_its_scores_in_order(url, capfd):
    study(url).record(ARCHITECTURES, SCORES)
    recalled = study(url).recall()
    assert list(recalled.items()) == list(zip(ARCHITECTURES, SCORES, strict=True))
    assert capfd.readouterr() == ("", "")


def test_recording_again_adds_nothing(url):
    for _ in range(2):
        study(url).record([*ARCHITECTURES, *ARCHITECTURES], [*SCORES, *SCORES])
    assert len(trials(url.replace("{", "{{").replace("}", "}}"))) == 8


def test_a_study_keeps_contexts_apart(url):
    study(url).record(ARCHITECTURES[:2], SCORES[:2])
    other = study(url, data="other")
    assert other.recall() == {}
    other.record(ARCHITECTURES[:1], [0.25])
    assert other.recall() == {ARCHITECTURES[0]: 0.25}
    assert study(url).recall() == dict(zip(ARCHITECTURES[:2], SCORES[:2], strict=True))


@pytest.mark.slow
def test_processes_that_record_the_same_add_it_once(url):
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from importlib.util import module_from_spec, spec_from_file_location\n"
        "spec = spec_from_file_location('these', sys.argv[1] + '/tests/nas/search/test_study.py')\n"
        "these = module_from_spec(spec); spec.loader.exec_module(these)\n"
        "mine = these.study(sys.argv[2])\n"
        "for a, score in zip(these.ARCHITECTURES, these.SCORES): mine.record([a], [score])\n"
    )
    command = [sys.executable, "-c", script, str(ROOT), url]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    assert [(writer.communicate()[1], writer.returncode) for writer in writers] == [(b"", 0)] * 2
    assert study(url).recall() == dict(zip(ARCHITECTURES, SCORES, strict=True))
    assert len(trials(url.replace("{", "{{").replace("}", "}}"))) == 8


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "searches.db"


@pytest.fixture
def sqlite(file) -> str:
    return f"sqlite:///{file}"


@pytest.mark.parametrize("space", [TINY, LAYERED], ids=lambda space: space.name)
def test_a_trial_says_what_was_scored(sqlite, space):
    rng = np.random.default_rng(0)
    architectures = list(dict.fromkeys(space.sample(rng) for _ in range(8)))
    study(sqlite, space=space).record(architectures, SCORES[: len(architectures)])
    for trial, architecture, score in zip(trials(sqlite), architectures, SCORES, strict=False):
        ms = float(latency(ArchitectureBatch.of([architecture]))[0])
        assert trial.value == score
        assert trial.params["hidden_size"] == architecture.hidden_size
        depth = 1 if space.uniform else architecture.num_layers
        for index, layer in enumerate(architecture.layers[:depth]):
            assert trial.params[f"num_heads_{index}"] == layer.num_heads
            assert trial.params[f"qkv_size_{index}"] == layer.qkv_size
            assert trial.params[f"intermediate_size_{index}"] == layer.intermediate_size
        assert len(trial.params) == 2 + 3 * depth
        assert trial.constraints == pytest.approx({"cpu": ms / 0.18 - 1})
        assert trial.user_attrs == {
            "architecture": architecture.to_json(),
            "latency_ms": {"cpu": pytest.approx(ms)},
            "supernet": "s",
            "data": "d",
        }


def test_several_budgets_make_latency_a_value_and_the_loosest_a_constraint(sqlite):
    goals = {"cpu": [Goal(latency, Limits(0.16)), Goal(latency, Limits(0.2))]}
    study(sqlite, goals=goals).record(ARCHITECTURES, SCORES)
    ms = latency(ArchitectureBatch.of(ARCHITECTURES))
    found = trials(sqlite)
    assert [t.values for t in found] == [[a, b] for a, b in zip(ms, SCORES, strict=True)]
    assert [t.constraints["cpu"] for t in found] == pytest.approx((ms / 0.2 - 1).tolist())


def test_a_failure_is_kept_with_its_reason_until_a_score_follows(sqlite):
    mine, failed = study(sqlite), Failed("out of memory")
    mine.record(ARCHITECTURES[:2], [failed, 0.5])
    mine.record(ARCHITECTURES[:2], [failed, failed])
    assert mine.recall() == {ARCHITECTURES[1]: 0.5}
    assert [t.state for t in trials(sqlite)] == [TrialState.FAIL, TrialState.COMPLETE]
    assert trials(sqlite)[0].user_attrs["reason"] == "out of memory"
    mine.record(ARCHITECTURES[:1], [0.25])
    assert mine.recall() == {ARCHITECTURES[1]: 0.5, ARCHITECTURES[0]: 0.25}


@pytest.mark.parametrize(
    "change",
    [
        "update trial_user_attributes set value_json = '\"{}\"' where key = 'architecture'",
        "update trial_user_attributes set value_json = '7' where key = 'architecture'",
        "update trial_user_attributes set value_json = '{broken' where key = 'latency_ms'",
        "update trial_user_attributes set value_json = '\"' || replace("
        f"""'{ARCHITECTURES[0].to_json().replace("16", "17")}', '"', '\\"') || '"'"""
        " where key = 'architecture'",
        "update trial_values set value = null, value_type = 'INF_POS'",
        'update trial_params set distribution_json = \'{"name": "Evil"}\'',
        "update trial_params set param_value = 1e300",
        "delete from trial_values",
    ],
)
def test_bad_rows_are_left_out_with_one_warning(sqlite, file, change):
    study(sqlite).record(ARCHITECTURES[:4], SCORES[:4])
    column = {"trials": "number"}.get(change.split()[1], "trial_id")
    of = f"{column} in (select trial_id from trials where number in (1, 2))"
    joined = " and " if " where " in change else " where "
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute(change + joined + of).rowcount >= 2
        connection.commit()
    warnings: list[str] = []
    mine = study(sqlite, warn=warnings.append)
    assert mine.recall() == {ARCHITECTURES[row]: SCORES[row] for row in (0, 3)}
    assert len(warnings) == 1
    assert "2 trials" in warnings[0]
    assert "\n" not in warnings[0]
    mine.record(ARCHITECTURES[:4], SCORES[:4])  # what is missing is scored and recorded again
    assert mine.recall() == {ARCHITECTURES[row]: SCORES[row] for row in (0, 3, 1, 2)}


def test_each_trial_is_read_once(sqlite, monkeypatch):
    mine, read = study(sqlite), []
    checked = SearchStudy._checked
    monkeypatch.setattr(SearchStudy, "_checked", lambda self, a: read.append(a) or checked(self, a))
    for architecture, score in zip(ARCHITECTURES, SCORES, strict=True):
        mine.record([architecture], [score])
    assert read == [architecture.to_json() for architecture in ARCHITECTURES[:-1]]


def test_anothers_study_is_refused(sqlite):
    study(sqlite)
    with pytest.raises(NasError, match="another space than layered: choose another name"):
        study(sqlite, space=LAYERED)
    with pytest.raises(NasError, match="1 values a trial, this search 2: choose another name"):
        study(sqlite, goals={"cpu": [GOAL, GOAL]})
    study(sqlite, space=LAYERED, name="other")


@pytest.mark.parametrize(
    ("architecture", "score", "named"),
    [
        (ARCHITECTURES[0], float("nan"), "finite"),
        (Architecture.uniform(num_layers=9, hidden_size=16, num_heads=1, intermediate_size=16),
         0.5, "not in space tiny"),
    ],
)  # fmt: skip
def test_what_cannot_be_recorded_is_refused(sqlite, architecture, score, named):
    with pytest.raises(NasError, match=named):
        study(sqlite).record([architecture], [score])


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("", "must be like sqlite"),
        ("searches.db", "must be like sqlite"),
        (f"mysql://me:{ENCODED}@localhost/x", "must be like sqlite"),
        (f"postgresql://me:{PASSWORD}@localhost/x", "must be like sqlite"),
        (f"postgresql://me:{ENCODED}@localhost:port/x", "must be like sqlite"),
        (f"postgresql+nodriver://me:{ENCODED}@localhost/x", "nodriver"),
        (f"postgresql+psycopg2://me:{ENCODED}@localhost:1/x", "refused"),
        (f"postgresql+psycopg2://me@localhost:1/x?password={ENCODED}", "refused"),
        ("sqlite:////nowhere/at/all/searches.db", "folder /nowhere/at/all does not exist"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line_without_the_password(address, named):
    with pytest.raises(NasError, match=named) as raised:
        study(address)
    assert "\n" not in str(raised.value)
    assert not any(part in str(raised.value) for part in (PASSWORD, ENCODED, "word}", "word%"))


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("These are notes.")
    with pytest.raises(NasError, match="file is not a database") as raised:
        study(f"sqlite:///{tmp_path / 'notes.txt'}")
    assert "\n" not in str(raised.value)


def test_a_wrong_password_is_one_line_without_it(postgres):
    wrong = postgres.replace(ENCODED, "tops3cret")
    with pytest.raises(NasError, match="password authentication failed") as raised:
        study(wrong)
    assert "\n" not in str(raised.value)
    assert "tops3cret" not in str(raised.value)


def test_a_study_deleted_meanwhile_is_one_line(sqlite):
    mine = study(sqlite)
    optuna.delete_study(study_name="tiny", storage=sqlite)
    with pytest.raises(NasError, match=r"study database sqlite:.* cannot be used"):
        mine.record(ARCHITECTURES[:1], [0.5])
