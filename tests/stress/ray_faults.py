"""A search on a Ray cluster whose workers, nodes and driver are killed: what it costs, and loses.

    python -m tests.stress.ray_faults

A real cluster of several nodes on this machine, and a search in a process of its own. At random
moments a worker, a node or the driver is killed with SIGKILL; a new node joins for one that is
lost, and the driver is started again. In the end every architecture must have its score, none
that stood in the score cache may have been scored again, and the front must be that of an
undisturbed search. Sub-networks are those of a small random supernet, really scored; each then
waits a while, so that a kill mostly meets some under way.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import ray
import torch
from ray.cluster_utils import Cluster
from transformers import BertConfig, BertForSequenceClassification

from latency.atomic import write_text
from latency.fingerprint import Fingerprint
from latency.options import load_target
from nas.cluster.evaluator import RayEvaluator
from nas.cluster.options import RayOptions
from nas.data.tokenization import EncodedExamples
from nas.pipeline.scoring import Score, Scorer, SupernetScorer
from nas.search.constraints import FloatArray, Limits
from nas.search.evaluator import Evaluator, LocalEvaluator
from nas.search.result import SearchResult
from nas.search.score_cache import ScoreCache
from nas.search.search import run_search
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.model import Supernet
from supernet.space import SearchSpace

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
SPACE = SearchSpace(
    name="faults",
    num_layers=(1, 2),
    hidden_size=tuple(range(16, 65, 8)),
    num_heads=(1, 2, 4),
    qkv_size=(16, 32, 48, 64),
    intermediate_size=tuple(range(32, 257, 32)),
    head_size=(8, 16),
)
LIMITS = Limits(latency_ms=0.06)
NODES = 3
KINDS = ("worker", "node", "driver")


@dataclass(frozen=True)
class Logged:
    """A scorer that takes a while longer, and logs process and architecture at both ends."""

    scorer: Scorer
    log: Path
    pause_s: float

    def build(self) -> Score:
        score = self.scorer.build()

        def logged(architecture: Architecture) -> float:
            self._note("begun", architecture)
            found = score(architecture)
            time.sleep(self.pause_s)
            self._note("ended", architecture)
            return found

        return logged

    def _note(self, event: str, architecture: Architecture) -> None:
        with self.log.open("a") as file:  # one write of one line: processes do not mix them
            file.write(f"{event} {os.getpid()} {architecture.to_json()}\n")


def scorer() -> SupernetScorer:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=500, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=256, max_position_embeddings=32, num_labels=4, initializer_range=0.2,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    ids = [rng.integers(5, 500, rng.integers(4, 32)).tolist() for _ in range(256)]
    columns = {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}
    examples = EncodedExamples(columns, rng.integers(0, 4, len(ids)).tolist())
    supernet = Supernet(BertForSequenceClassification(config))
    return SupernetScorer.of(supernet, examples, collate, "accuracy")


def collate(rows: Sequence[Any]) -> dict[str, torch.Tensor]:
    tokens = max(len(row["input_ids"]) for row in rows)
    return {
        name: torch.tensor([row[name] + [0] * (tokens - len(row[name])) for row in rows])
        for name in ("input_ids", "attention_mask")
    }


def latency_ms(batch: ArchitectureBatch) -> FloatArray:
    milliseconds: FloatArray = batch.over_layers(batch.weights) / 1e6
    return milliseconds


def searched(evaluator: Evaluator, folder: Path, settings: SearchSettings) -> SearchResult:
    cache = ScoreCache(folder / "scores.jsonl", supernet="random", data="random")
    return run_search(SPACE, latency_ms, evaluator, LIMITS, settings, cache=cache)


def drive(arguments: argparse.Namespace) -> None:
    """The driver: the search, from whatever is in its score cache."""
    folder = arguments.drive
    logged = Logged(scorer(), folder / "log", arguments.pause)
    with RayEvaluator(logged, RayOptions(arguments.address, timeout_s=60)) as evaluator:
        result = searched(evaluator, folder, SearchSettings(evaluations=arguments.evaluations))
    write_text(folder / "result.json", json.dumps(result.to_dict()))


# ---- who kills -----------------------------------------------------------------------------------


class Disturbed:
    """A cluster, a driver on it, and the kills that both survive."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self._folder, self._arguments = folder, arguments
        self._rng = np.random.default_rng(arguments.seed)
        quickly = {"health_check_period_ms": 1000, "health_check_failure_threshold": 8}
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": quickly}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(NODES):
            self._cluster.add_node(num_cpus=1)
        self._driver = self._start_driver()
        self._cached_at: list[tuple[int, set[str]]] = []
        """At each kill: the lines of the log, and the architectures whose scores were stored."""

    def run(self) -> list[dict[str, Any]]:
        """Let the search end, killing on the way; what was killed, and when."""
        kinds = list(np.resize(KINDS, self._arguments.kills))
        self._rng.shuffle(kinds)
        start, kills = time.monotonic(), []
        try:
            for kind in kinds:
                self._wait_until_going()
                time.sleep(self._rng.uniform(0, self._arguments.apart))
                if self._driver.poll() is not None:
                    break
                kills.append({"kind": str(kind), "at_s": time.monotonic() - start})
                kills[-1] |= getattr(self, f"_kill_{kind}")()
            if self._driver.wait():
                raise SystemExit(f"the driver ended with {self._driver.returncode}")
        finally:
            self._driver.kill()
            self._cluster.shutdown()
        return kills

    def scored_although_stored(self) -> int:
        """Evaluations begun after a kill at which the cache already held their scores."""
        events = self._log()
        return sum(
            event == "begun" and architecture in cached
            for lines, cached in self._cached_at
            for event, _, architecture in events[lines:]
        )

    def counts(self) -> dict[str, int]:
        events = Counter(event for event, _, _ in self._log())
        return {
            "evaluations begun": events["begun"],
            "evaluations ended": events["ended"],
            "scores stored": len(self._stored()),
        }

    def _start_driver(self) -> subprocess.Popen[bytes]:
        arguments = self._arguments
        return subprocess.Popen(
            [
                sys.executable, "-m", "tests.stress.ray_faults", "--drive", str(self._folder),
                "--address", self._cluster.address, "--pause", str(arguments.pause),
                "--evaluations", str(arguments.evaluations),
            ]
        )  # fmt: skip

    def _wait_until_going(self) -> None:
        """Until something was scored since the last kill."""
        seen = self._cached_at[-1][0] if self._cached_at else 0
        while self._driver.poll() is None and not (
            self._under_way() and any(event == "ended" for event, _, _ in self._log()[seen:])
        ):
            time.sleep(0.05)

    def _kill_worker(self) -> dict[str, int]:
        under_way = self._under_way()
        self._remember()
        if under_way:
            os.kill(int(self._rng.choice(sorted(under_way))), signal.SIGKILL)
        return {"in_flight": min(1, len(under_way))}

    def _kill_node(self) -> dict[str, int]:
        nodes = sorted(self._cluster.worker_nodes, key=lambda node: node.node_id)
        node = nodes[int(self._rng.integers(len(nodes)))]
        under_way = len(self._under_way())
        self._remember()
        self._cluster.remove_node(node, allow_graceful=False)
        self._cluster.add_node(num_cpus=1)
        return {"in_flight": min(1, under_way)}

    def _kill_driver(self) -> dict[str, int]:
        under_way = self._under_way()
        self._driver.kill()
        self._driver.wait()
        self._remember()
        ended = {architecture for event, _, architecture in self._log() if event == "ended"}
        self._driver = self._start_driver()
        return {"in_flight": len(under_way), "ended_unstored": len(ended - self._stored())}

    def _remember(self) -> None:
        stored = self._stored()  # before the log: what it holds was begun by then
        self._cached_at.append((len(self._log()), stored))

    def _under_way(self) -> set[int]:
        """Processes that have begun an evaluation and not ended it, and live."""
        open_ones: dict[int, str] = {}
        for event, process, architecture in self._log():
            if event == "begun":
                open_ones[process] = architecture
            else:
                open_ones.pop(process, None)
        return {process for process in open_ones if Path(f"/proc/{process}").exists()}

    def _log(self) -> list[tuple[str, int, str]]:
        path = self._folder / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(e, int(p), a) for e, p, a in (line.split(" ", 2) for line in lines)]

    def _stored(self) -> set[str]:
        path = self._folder / "scores.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        records = [record for line in lines if "score" in (record := json.loads(line))]
        return {Architecture.from_dict(r["architecture"]).to_json() for r in records}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--apart", type=float, default=5.0, help="seconds at most")
    parser.add_argument("--evaluations", type=int, default=320)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds added to an evaluation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as a worker has
    if arguments.drive is not None:
        drive(arguments)
        return

    settings = SearchSettings(evaluations=arguments.evaluations)
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        undisturbed = searched(LocalEvaluator(scorer().build()), Path(one), settings)
        disturbed = Disturbed(Path(other), arguments)
        kills = disturbed.run()
        found = SearchResult.from_dict(json.loads((Path(other) / "result.json").read_text()))
        counts = disturbed.counts()
        again = disturbed.scored_although_stored()
    kinds = Counter(kill["kind"] for kill in kills)
    checks = {
        "as many kills as asked for": len(kills) == arguments.kills,
        "every architecture has its score": counts["scores stored"] == undisturbed.newly_scored,
        "no stored score was computed again": again == 0,
        "the front is that of an undisturbed search": found.front == undisturbed.front,
        "the best is that of an undisturbed search": found.best == undisturbed.best,
        "the evaluations are those of an undisturbed search": (
            found.evaluations == undisturbed.evaluations
        ),
    }
    content = {
        "script": "tests/stress/ray_faults.py",
        "arguments": {n: getattr(arguments, n)
                      for n in ("kills", "apart", "evaluations", "pause", "seed")},
        "machine": Fingerprint.of_this_machine(load_target("cpu")).to_dict(),
        "platform": platform.platform(),
        "ray": ray.__version__,
        "finished": time.strftime("%Y-%m-%d", time.gmtime()),
        "nodes": NODES,
        "checks": checks,
        "counts": counts,
        "repeated": counts["evaluations begun"] - counts["scores stored"],
        "kills": kills,
    }  # fmt: skip
    print(f"killed: {', '.join(f'{count} x {kind}' for kind, count in kinds.items())}")
    print(*(f"{name}: {count}" for name, count in counts.items()), sep="\n")
    print(f"begun more than once: {content['repeated']}")
    print(*(f"{'yes' if held else 'NO '} {name}" for name, held in checks.items()), sep="\n")
    (RESULTS / "ray_faults.json").write_text(json.dumps(content, indent=1) + "\n")
    if not all(checks.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
