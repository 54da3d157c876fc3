"""Kinds of task: what holds for each of them, so for a new one too."""

from __future__ import annotations

import pickle
from typing import get_args

import pandas as pd
import pytest
from transformers import BertConfig

from nas.commands.options import MetricOption
from nas.service.api.upload_records import LabelSummary
from nas.tasks.kind import Kind, LabelColumn
from nas.tasks.kinds import KINDS, METRICS, kind_of_labels, kind_of_metric
from nas.tasks.labels import head_of
from nas.tasks.task import Task
from supernet.errors import NasError

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def task_of(kind: Kind) -> Task:
    names = ("no", "yes") if kind.outputs is None else ()
    return Task("mine", kind, names, kind.metric_names[0])


def test_names_of_kinds_and_of_metrics_are_each_ones_own() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert len(set(METRICS)) == len(METRICS)


def test_the_service_knows_every_kind() -> None:
    kinds = LabelSummary.model_json_schema()["properties"]["kind"]["enum"]
    assert kinds == [kind.name for kind in KINDS]


def test_the_help_names_every_metric() -> None:
    _, option = get_args(MetricOption)
    assert option.help.startswith(f"{', '.join(METRICS[:-1])} or {METRICS[-1]};")


@each_kind
def test_its_metrics_are_found_by_their_names(kind: Kind) -> None:
    for name in kind.metric_names:
        assert kind_of_metric(name) is kind
        assert kind.metric(name).name == name
    assert kind.correlation in kind.metric_names
    with pytest.raises(NasError, match=f"metric 'bleu' is not for {kind.name}; accepted: "):
        kind.metric("bleu")


@each_kind
def test_a_head_for_its_tasks_is_one_of_its_own(kind: Kind) -> None:
    task = task_of(kind)
    names = dict(enumerate(task.outputs))
    head = head_of(BertConfig(id2label=names, problem_type=kind.problem_type))
    assert head is not None
    assert (head.kind.problem_type, head.names) == (kind.problem_type, task.label_names)
    assert kind.has_width(task.num_labels)


@each_kind
def test_tasks_are_the_same_after_a_journey_to_another_process(kind: Kind) -> None:
    assert pickle.loads(pickle.dumps(task_of(kind))) == task_of(kind)


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ([0, 1, 1], "classification"),
        ([0.0, 2.0, 1.0], "classification"),
        (["0.5", "b", "b"], "classification"),
        ([True, False, False], "classification"),
        ([0.5, 2.0, 1.0], "regression"),
    ],
)
def test_labels_are_of_one_kind(labels: list[object], name: str) -> None:
    column = LabelColumn("data mine", {"train": pd.Series(labels)})
    assert kind_of_labels(column).name == name


def test_labels_of_another_type_are_refused() -> None:
    column = LabelColumn("data mine", {"train": pd.Series([1, "a"])})
    with pytest.raises(NasError, match=r"^data mine holds mixed-integer values; accepted: all int"):
        kind_of_labels(column)
