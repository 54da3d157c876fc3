"""Evaluations a second on a Ray cluster of this machine, and what that says of larger ones.

    NAS_DATA=... python benchmarks/ray_scaling.py --task trec

Sub-networks of a trained supernet are scored in this process, by one Ray worker and by two, with
one thread each, in turn and repeatedly, so that the machine's pace cancels in the ratios. Beside
them stand what Ray adds to a candidate, the driver's own time for it, and what a real searcher
takes to propose a batch. A discrete-event simulation of driver and workers with these times then
goes to 1,024 workers and tells where the driver is what limits; at one and two workers it can be
held against the measurement.
"""

from __future__ import annotations

import argparse
import heapq
import math
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from result_files import origin, save_figure, write_result

from latency.drawing import PALETTE, canvas, style
from nas.cluster.evaluator import RayEvaluator
from nas.cluster.options import RayOptions
from nas.models.evaluate import collator
from nas.pipeline.pipeline import Groundwork
from nas.pipeline.recipe import load_recipe
from nas.pipeline.request import Lesson
from nas.pipeline.scoring import Score, Scorer, SupernetScorer
from nas.pipeline.stage import Workbench
from nas.pipeline.supernet import trained_supernet_stage
from nas.search.constraints import Limits
from nas.search.evaluator import Evaluator, LocalEvaluator, Outcome
from nas.search.score_cache import ScoreCache
from nas.search.search import run_search
from nas.search.settings import SearchSettings
from nas.settings import data_folder
from nas.store.result_folder import MODEL
from nas.store.workspace import Workspace
from nas.terminal.progress import Display
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.configs import load_space
from supernet.model import Supernet
from supernet.space import SearchSpace

RESULTS = Path(__file__).parent / "results"
BATCHES = (8, 32, 128)
WORKERS = tuple(2**exponent for exponent in range(11))
EFFICIENT = 0.9
"""Of what workers that never wait would score: where less is left, the driver is saturated."""


@dataclass(frozen=True)
class Timed:
    """Its scores are the seconds that scoring takes where it is done."""

    scorer: Scorer

    def build(self) -> Score:
        score = self.scorer.build()

        def seconds(architecture: Architecture) -> float:
            start = time.perf_counter()
            score(architecture)
            return time.perf_counter() - start

        return seconds


@dataclass(frozen=True)
class Nothing:
    """Scores in no time: what is left is the way there and back."""

    def build(self) -> Score:
        return lambda *_: 0.0


def trained_scorer(arguments: argparse.Namespace, space: SearchSpace) -> SupernetScorer:
    """Of the supernet that a search on this task would use; trained when it is not there yet."""
    folder = data_folder()
    if folder is None:
        raise SystemExit("set NAS_DATA to the folder of data sets")
    display = Display()
    lesson = Lesson(
        teacher=arguments.teacher,
        data=str(folder / arguments.task),
        recipe=load_recipe(arguments.recipe),
        seed=arguments.seed,
    )
    bench = Workbench(Workspace(arguments.workspace, warn=display.warn), display)
    ground = Groundwork(lesson, bench)
    task = ground.task
    supernet = bench.make(trained_supernet_stage(lesson, space, ground.teacher, task, ground.guide))
    return SupernetScorer.of(
        Supernet.from_pretrained(supernet.path / MODEL),
        task.validation,
        collator(task.tokenizer),
        task.data.task.metric,
    )


# ---- what is measured ----------------------------------------------------------------------------


@dataclass
class Pass:
    """One measured pass over all candidates."""

    seconds: float
    own_s: list[float]
    """Of each candidate, where it was scored."""

    @property
    def rate(self) -> float:
        return len(self.own_s) / self.seconds


def timed_pass(evaluator: Evaluator, candidates: Sequence[Architecture]) -> Pass:
    start = time.perf_counter()
    own = submitted(evaluator, candidates)
    return Pass(time.perf_counter() - start, own)


def submitted(evaluator: Evaluator, candidates: Sequence[Architecture]) -> list[float]:
    evaluator.submit(candidates)
    outcomes = [evaluator.next()[1] for _ in candidates]
    failed = [outcome for outcome in outcomes if not isinstance(outcome, float)]
    if failed:
        raise SystemExit(f"{len(failed)} candidates failed: {failed[0]}")
    return [outcome for outcome in outcomes if isinstance(outcome, float)]


@contextmanager
def evaluators(scorer: Scorer) -> Iterator[dict[str, Evaluator]]:
    """All at once: those that are not asked take no time."""
    options = {n: RayOptions(workers=n) for n in (1, 2)}
    with RayEvaluator(scorer, options[1]) as one, RayEvaluator(scorer, options[2]) as two:
        yield {"local": LocalEvaluator(scorer.build()), "1 worker": one, "2 workers": two}


def measured_passes(
    scorer: Scorer, candidates: Sequence[Architecture], repeats: int
) -> tuple[dict[str, list[Pass]], list[float]]:
    """Of each evaluator, interleaved; and seconds that one candidate alone takes more by Ray."""
    with evaluators(Timed(scorer)) as found:
        for evaluator in found.values():  # until all are there and warm
            submitted(evaluator, candidates[:8])
        passes: dict[str, list[Pass]] = {name: [] for name in found}
        for repeat in range(repeats):
            names = list(found) if repeat % 2 else list(found)[::-1]
            for name in names:
                passes[name].append(timed_pass(found[name], candidates))
        alone = []
        for candidate in candidates:
            one = timed_pass(found["1 worker"], [candidate])
            alone.append(one.seconds - one.own_s[0])
    return passes, alone


def driver_seconds(candidates: Sequence[Architecture], count: int) -> float:
    """The driver's processor time to submit and collect one candidate, all its threads."""
    with RayEvaluator(Nothing(), RayOptions(workers=2)) as evaluator:
        submitted(evaluator, candidates)
        many = (list(candidates) * math.ceil(count / len(candidates)))[:count]
        start = time.process_time()
        submitted(evaluator, many)
        return (time.process_time() - start) / count


class AskTimer:
    """An evaluator that answers at once, and notes how long the searcher took to ask again."""

    def __init__(self) -> None:
        self.ask_s: list[float] = []
        self._waiting: deque[Architecture] = deque()
        self._answered_s: float | None = None

    def submit(self, architectures: Sequence[Architecture]) -> None:
        if self._answered_s is not None:
            self.ask_s.append(time.perf_counter() - self._answered_s)
        self._answered_s = None
        self._waiting.extend(architectures)

    def next(self) -> tuple[Architecture, Outcome]:
        architecture = self._waiting.popleft()
        self._answered_s = time.perf_counter()
        chance = np.random.default_rng(list(architecture.to_json().encode())).normal()
        return architecture, 0.9 - 3e5 / architecture.flops(64) + 0.01 * float(chance)


def ask_seconds(space: SearchSpace, batch: int, evaluations: int) -> float:
    """What the guided search takes to propose a batch, the median over a whole search."""

    def latency_ms(architectures: ArchitectureBatch) -> np.ndarray:
        return architectures.over_layers(architectures.weights) / 1e6

    timer = AskTimer()
    limit_ms = float(latency_ms(ArchitectureBatch.of([space.largest]))[0]) / 3
    settings = SearchSettings(evaluations=evaluations, batch=batch, batches_in_flight=1)
    with tempfile.TemporaryDirectory() as folder:
        cache = ScoreCache(Path(folder) / "scores.jsonl", supernet="none", data="none")
        run_search(space, latency_ms, timer, Limits(limit_ms), settings, cache=cache)
    return statistics.median(timer.ask_s)


# ---- what is simulated ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Setup:
    """A cluster and a search on it.

    Args:
        workers: each with two candidates at the most, as :mod:`nas.cluster` has it.
        batch: candidates that are asked for at once.
        in_flight: batches under way; a batch is told when it and all before it are scored, and
            then another is asked for.
        ask_s: of a batch.
        driver_s: to submit and collect one candidate.
    """

    workers: int
    batch: int
    in_flight: int
    ask_s: float
    driver_s: float


def simulated_rate(setup: Setup, own_s: Sequence[float], seed: int = 0) -> float:
    """Evaluations a second, once the cluster is busy."""
    rng = np.random.default_rng(seed)
    total = max(2000, 24 * setup.workers)
    lasts = iter(rng.choice(np.asarray(own_s), 2 * total + setup.batch * setup.in_flight * 2))
    free: tuple[deque[int], deque[int]] = (deque(range(setup.workers)), deque())
    """Workers that have no candidate, and those that have one."""
    given, until_s = [0] * setup.workers, [0.0] * setup.workers
    waiting: deque[int] = deque()
    left: deque[int] = deque()  # of each batch under way, the oldest first
    first = 0  # the number of the oldest
    ends: list[tuple[float, int, int]] = []
    now, done, half_s = 0.0, 0, 0.0

    def ask() -> None:
        nonlocal now
        now += setup.ask_s
        waiting.extend([first + len(left)] * setup.batch)
        left.append(setup.batch)

    def assign() -> None:
        for queued, workers in enumerate(free):
            while waiting and workers:
                worker = workers.popleft()
                if given[worker] != queued:
                    continue  # it has ended one or been given one since
                begun_s = max(now, until_s[worker])
                until_s[worker] = begun_s + float(next(lasts))
                heapq.heappush(ends, (until_s[worker], worker, waiting.popleft()))
                given[worker] += 1
                if not queued:
                    free[1].append(worker)

    for _ in range(setup.in_flight):
        ask()
        assign()
    while done < total:
        end_s, worker, batch = heapq.heappop(ends)
        now = max(now, end_s) + setup.driver_s
        done += 1
        given[worker] -= 1
        free[given[worker]].append(worker)
        left[batch - first] -= 1
        assign()
        while left and not left[0]:
            left.popleft()
            first += 1
            ask()
            assign()
        if done == total // 2:
            half_s = now
    return (total - total // 2) / (now - half_s)


def simulations(
    own_s: Sequence[float], driver_s: float, ask_s: dict[int, float]
) -> list[dict[str, Any]]:
    """For each batch and number of workers; last a searcher that proposes in no time.

    So many batches are under way that workers have candidates while the oldest batch
    waits for its last, as it is told first, and while the next is proposed.
    """
    rows = []
    for batch, ask in [*ask_s.items(), (max(ask_s), 0.0)]:
        for workers in WORKERS:
            in_flight = 2 + math.ceil(4 * workers / batch)
            setup = Setup(workers, batch, in_flight, ask, driver_s)
            rate = simulated_rate(setup, own_s)
            rows.append(
                asdict(setup)
                | {
                    "evaluations_per_s": rate,
                    "efficiency": rate * statistics.mean(own_s) / workers,
                }
            )
    return rows


# ---- what is told --------------------------------------------------------------------------------


def ratio(numerator: Sequence[Pass], denominator: Sequence[Pass]) -> dict[str, Any]:
    """Of rates, pass by pass: the median and the extremes."""
    values = [a.rate / b.rate for a, b in zip(numerator, denominator, strict=True)]
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def table(content: dict[str, Any]) -> str:
    lines = ["| evaluations a second | median | least | most |", "|---|---|---|---|"]
    for name, rates in content["rates"].items():
        lines.append(
            f"| {name} | {statistics.median(rates):.2f} | {min(rates):.2f} | {max(rates):.2f} |"
        )
    for name, found in content["ratios"].items():
        lines.append(f"| {name} | {found['median']:.3f} | {found['least']:.3f} "
                     f"| {found['most']:.3f} |")  # fmt: skip
    lines += ["", *(f"{name}: {value:.2f}" for name, value in content["milliseconds"].items()), ""]
    lines += ["| batch | asks a batch ms | efficient up to | at 64 workers | at 1,024 workers |",
              "|---|---|---|---|---|"]  # fmt: skip
    for (batch, ask_s), rows in series(content):
        most = max((w for w, row in rows.items() if row["efficiency"] >= EFFICIENT), default=0)
        lines.append(
            f"| {batch} | {1000 * ask_s:.0f} | {most} workers "
            f"| {rows[64]['evaluations_per_s']:.0f}/s, {rows[64]['efficiency']:.0%} "
            f"| {rows[1024]['evaluations_per_s']:.0f}/s, {rows[1024]['efficiency']:.0%} |"
        )
    return "\n".join(lines)


def series(
    content: dict[str, Any],
) -> list[tuple[tuple[int, float], dict[int, dict[str, Any]]]]:
    """The simulated rows by batch and what proposing one takes, and of each by its workers."""
    found: dict[tuple[int, float], dict[int, dict[str, Any]]] = {}
    for row in content["simulation"]:
        found.setdefault((row["batch"], row["ask_s"]), {})[row["workers"]] = row
    return list(found.items())


def plot(content: dict[str, Any], path: Path) -> None:
    colours = [PALETTE[name] for name in ("front", "chosen", "teacher", "ink")]
    with style():
        figure, axes = canvas()
        axes.plot(WORKERS, [w / content["mean_own_s"] for w in WORKERS], "--",
                  color=PALETTE["muted"], label="workers that never wait")  # fmt: skip
        for ((batch, ask_s), rows), colour in zip(series(content), colours, strict=True):
            axes.plot(list(rows), [row["evaluations_per_s"] for row in rows.values()],
                      marker="o", markersize=3, color=colour,
                      label=f"batches of {batch}, {ask_s:.2f} s to propose")  # fmt: skip
        measured = [statistics.median(content["rates"][name]) for name in ("1 worker", "2 workers")]
        axes.scatter([1, 2], measured, color=PALETTE["ink"], zorder=4, label="measured")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("workers")
        axes.set_ylabel("evaluations a second")
        axes.legend()
        save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="trec", help="a folder under NAS_DATA")
    parser.add_argument("--teacher", default="minilm")
    parser.add_argument("--space", default="minilm")
    parser.add_argument("--recipe", default="full")
    parser.add_argument("--candidates", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--searched", type=int, default=512, help="evaluations of a timed search")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workspace", type=Path, default=Path("tailorbert-workspace"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as a worker has
    space = load_space(arguments.space)
    scorer = trained_scorer(arguments, space)
    rng = np.random.default_rng(arguments.seed)
    candidates = [space.sample(rng) for _ in range(arguments.candidates)]
    ask_s = {batch: ask_seconds(space, batch, arguments.searched) for batch in BATCHES}
    ray.init("local", num_cpus=5, include_dashboard=False, log_to_driver=False)
    passes, alone = measured_passes(scorer, candidates, arguments.repeats)
    driver_s = driver_seconds(candidates, 2000)
    ray.shutdown()

    busy = passes["1 worker"]
    own_s = [seconds for one in busy for seconds in one.own_s]
    added = [(one.seconds - sum(one.own_s)) / len(candidates) for one in busy]
    content = origin() | {
        "arguments": {k: v for k, v in vars(arguments).items() if k != "workspace"},
        "ray": ray.__version__,
        "rates": {name: [one.rate for one in found] for name, found in passes.items()},
        "ratios": {
            "1 worker over local": ratio(passes["1 worker"], passes["local"]),
            "2 workers over 1": ratio(passes["2 workers"], passes["1 worker"]),
            "2 workers over local": ratio(passes["2 workers"], passes["local"]),
        },
        "milliseconds": {
            "added to a candidate, worker kept busy": 1000 * statistics.median(added),
            "added to a candidate alone": 1000 * statistics.median(alone),
            "driver's processor time for a candidate": 1000 * driver_s,
        },
        "mean_own_s": statistics.mean(own_s),
        "own_s": own_s,
        "ask_s": {str(batch): seconds for batch, seconds in ask_s.items()},
        "simulation": simulations(own_s, driver_s, ask_s),
    }
    print(table(content))
    write_result(RESULTS / "ray_scaling.json", content)
    plot(content, RESULTS / "ray_scaling.png")


if __name__ == "__main__":
    main()
