"""Finished searches in a service's database and folders, as its worker leaves them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from latency.accuracy import PredictorErrors
from latency.atomic import write_text
from latency.target import Target
from nas.data.summary import DataSummary
from nas.report import page as report
from nas.report.record import Calibration, Candidate, Evaluated, Report
from nas.search.front import Point
from nas.service.database.tables import searches
from nas.service.searches import events, results
from nas.service.searches.requests import SearchRequest
from nas.service.service import Service
from nas.tasks.kind import ClassShare
from supernet.architecture import Architecture

TEACHER_MS, TEACHER_SCORE = 7.47, 0.968
EVALUATIONS = 60


def finished_search(
    service: Service, budgets: Sequence[str] = ("4x",), *, seed: int = 0, owner: str = "ada"
) -> dict[str, Any]:
    """A search that is done, with a model for each budget.

    Returns:
        Its id and its models, as the database holds them.
    """
    search_id, now = secrets.token_hex(8), time.time()
    wanted = SearchRequest(budgets=tuple(budgets), recipe="quick", seed=seed)
    models = []
    for number, budget in enumerate(budgets):
        output = service.folder("workspace") / f"{search_id}-{number}"
        (output / "model").mkdir(parents=True)
        (output / "model" / "config.json").write_text(json.dumps({"num_labels": 6}))
        (output / "model.onnx").write_bytes(bytes(200_000))
        found = _report(_budget_ms(budget), seed)
        write_text(output / "report.json", json.dumps(found.to_dict()))
        write_text(output / "report.html", _page(_budget_ms(budgets[0]), seed))
        place = service.folder("results") / search_id / str(number)
        models.append(results.publish(output, place, number=number, target="cpu", budget=budget))
    with service.engine.begin() as connection:
        connection.execute(
            searches.insert().values(
                id=search_id,
                owner=owner,
                created=now - 900,
                updated=now,
                status="done",
                attempt=1,
                stage="publish",
                priority=100,
                request=wanted.model_dump(mode="json"),
                models=models,
                expired=False,
            )
        )
        for kind, data in _events(budgets):
            events.append(connection, search_id, kind, data)
    return {"id": search_id, "models": models}


def _budget_ms(speedup: str) -> float:
    return TEACHER_MS / float(speedup.removesuffix("x"))


@cache
def _page(budget_ms: float, seed: int) -> str:
    """A report's page, drawn once, for plots take a second; every model's is the first one's."""
    return report.render(_report(budget_ms, seed))


def _report(budget_ms: float, seed: int) -> Report:
    """What a search with a budget finds; of one seed, all budgets share their evaluations."""
    chance = np.random.default_rng(seed)
    evaluations = [_evaluated(chance) for _ in range(EVALUATIONS)]
    front: list[Evaluated] = []
    for one in sorted(evaluations, key=lambda one: one.latency_ms):
        if not front or one.score > front[-1].score:
            front.append(one)
    within = [one for one in front if one.latency_ms * 1.03 <= budget_ms]
    chosen = within[-1]
    predicted = chance.uniform(0.1, TEACHER_MS, 24)
    measured_ms = chosen.latency_ms * 1.02
    return Report(
        budget_ms=budget_ms,
        budget_percentile=50,
        target=Target(threads=2, batch_size=1, sequence_length=64).to_dict(),
        architecture=chosen.architecture,
        predicted_p50_ms=chosen.latency_ms,
        measured_p50_ms=measured_ms,
        measured_p95_ms=measured_ms * 1.1,
        teacher_p50_ms=TEACHER_MS,
        teacher_p95_ms=TEACHER_MS * 1.02,
        metric="accuracy",
        score=min(0.96, chosen.score + 0.03),
        teacher_score=TEACHER_SCORE,
        split="test",
        parameters=chosen.architecture.parameters(),
        teacher_parameters=22_715_526,
        stages={"teacher": 31.0, "supernet": 212.0, "profile": 60.0, "search": 8.0},
        seed=seed,
        versions={"python": "3.11.7"},
        data="pydoc: 4000 + 500 + 500 examples (train, validation, test)",
        data_summary=DataSummary(
            splits={"train": 4000, "validation": 500, "test": 500},
            text_columns=("text",),
            label_column="label",
            unread_columns=("id", "url"),
            num_classes=3,
            classes=tuple(
                ClassShare(name, share)
                for name, share in (("question", 0.6), ("bug", 0.3), ("idea", 0.1))
            ),
            warnings=("12 texts stand in train and in test",),
        ),
        device={"cpu": "Some processor", "cores": 2},
        settings={"recipe": "quick"},
        front=tuple(Point(one.architecture, one.latency_ms, one.score) for one in front),
        evaluations=tuple(evaluations),
        candidates=(
            Candidate(within[-2].architecture, within[-2].latency_ms, budget_ms * 1.01, False),
            Candidate(chosen.architecture, chosen.latency_ms, measured_ms, True),
        ),
        calibration=tuple(
            Calibration(float(one), float(one * chance.normal(1.0, 0.04))) for one in predicted
        ),
        predictor_errors=PredictorErrors(
            models=24,
            mape_percent=3.2,
            within_5_percent=0.79,
            within_10_percent=0.96,
            bias_percent=0.4,
            kendall_tau=0.97,
            margin_95_percent=7.1,
            floor_models=10,
            floor_mape_percent=1.7,
            floor_within_5_percent=0.9,
            floor_within_10_percent=1.0,
        ).to_dict(),
    )


def _evaluated(chance: np.random.Generator) -> Evaluated:
    hidden = int(chance.integers(2, 13)) * 32
    architecture = Architecture.uniform(
        num_layers=int(chance.integers(1, 7)),
        hidden_size=hidden,
        num_heads=hidden // 32,
        intermediate_size=int(chance.integers(2, 25)) * 64,
    )
    weights = sum(layer.weights(hidden) for layer in architecture.layers)
    latency_ms = 0.05 + weights / 1.5e6
    score = float(0.95 - 0.5 / (1 + 9 * latency_ms) + chance.normal(0, 0.008))
    return Evaluated(architecture, latency_ms, score, score, True)


def _events(budgets: Sequence[str]) -> list[tuple[events.Kind, dict[str, Any]]]:
    best = [
        {"budget": one, "latency_ms": 1.64, "score": 0.91, "architecture": "4x192 6h q192 f448"}
        for one in budgets
    ]
    return [
        ("status", {"status": "queued", "attempt": 1}),
        ("status", {"status": "running", "attempt": 1}),
        ("stage", {"stage": "teacher", "state": "began"}),
        ("progress", {"stage": "teacher", "title": "fine-tuning", "done": 120, "total": 375}),
        ("stage", {"stage": "teacher", "state": "ended", "seconds": 31.0}),
        ("stage", {"stage": "search", "state": "began"}),
        ("line", {"text": "the space holds 1,824 architectures", "level": "info"}),
        (
            "search",
            {
                "scored": 24,
                "planned": 48,
                "front_size": 9,
                "per_minute": 210.0,
                "seconds_left": 7.0,
                "expected_gain": 0.0012,
                "best": best,
            },
        ),
        ("stage", {"stage": "search", "state": "ended", "seconds": 8.0}),
        ("status", {"status": "done", "attempt": 1}),
    ]
