"""A cluster scores as one process does, whoever dies meanwhile. The nodes are real Ray nodes."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from nas.cluster.options import RayOptions
from nas.data.tokenization import EncodedExamples
from nas.pipeline.scoring import SupernetScorer
from nas.search.evaluator import Evaluator, Failed
from supernet.architecture import Architecture
from supernet.errors import NasError
from supernet.model import Supernet

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

from nas.cluster.evaluator import RayEvaluator  # noqa: E402
from tests.nas.ray_cluster import ROOM  # noqa: E402

ONE, TWO, THREE, FOUR, FIVE, SIX, WARM_UP = (
    Architecture.uniform(num_layers=1, hidden_size=hidden, num_heads=1, intermediate_size=8)
    for hidden in range(8, 57, 8)
)


@pytest.fixture(scope="module", autouse=True)
def sent_by_value() -> None:
    """Workers get this module's classes with their objects, and need not import it and torch."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclass(frozen=True)
class Slow:
    """Scores by the hidden size; what it does on the way is told by files in a folder.

    A line in the file ``SIZE`` names node and process of each beginning. Where ``SIZE-hold``
    stands, the first that comes takes it away and holds on for ever; at ``SIZE-raise`` all raise.
    """

    folder: Path

    def build(self):
        def score(architecture: Architecture) -> float:
            size = architecture.hidden_size
            node = ray.get_runtime_context().get_node_id()
            with (self.folder / f"{size}").open("a") as file:
                file.write(f"{node} {os.getpid()}\n")
            with contextlib.suppress(FileNotFoundError):
                (self.folder / f"{size}-hold").unlink()
                time.sleep(1000)
            if (self.folder / f"{size}-raise").exists():
                raise ValueError(f"cannot score {size}\nand a traceback")
            return size / 100

        return score

    def beginnings(self, architecture: Architecture) -> list[tuple[str, int]]:
        """Node and process of each."""
        file = self.folder / f"{architecture.hidden_size}"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(node, int(process)) for node, process in map(str.split, lines)]

    def hold(self, architecture: Architecture) -> None:
        (self.folder / f"{architecture.hidden_size}-hold").touch()

    def always_raise(self, architecture: Architecture) -> None:
        (self.folder / f"{architecture.hidden_size}-raise").touch()

    def wait_until_begun(self, architecture: Architecture) -> tuple[str, int]:
        while not (found := self.beginnings(architecture)):
            time.sleep(0.02)
        return found[0]


def outcomes(evaluator: Evaluator, count: int) -> dict[Architecture, float | Failed]:
    return dict(evaluator.next() for _ in range(count))


def collate(rows):
    tokens = max(len(row["input_ids"]) for row in rows)
    return {
        name: torch.tensor([row[name] + [0] * (tokens - len(row[name])) for row in rows])
        for name in ("input_ids", "attention_mask")
    }


@pytest.fixture(scope="module")
def scorer() -> SupernetScorer:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=4000, hidden_size=256, num_hidden_layers=2, num_attention_heads=1,
        intermediate_size=64, max_position_embeddings=12, num_labels=3, initializer_range=0.3,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    ids = [rng.integers(5, 60, rng.integers(3, 12)).tolist() for _ in range(150)]
    examples = EncodedExamples(
        {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]},
        rng.integers(0, 3, len(ids)).tolist(),
    )
    supernet = Supernet(BertForSequenceClassification(config))
    return SupernetScorer.of(supernet, examples, collate, "accuracy")


def test_scores_are_those_of_one_process_and_a_node_holds_the_weights_once(cluster, scorer):
    score = scorer.build()
    gc.collect()  # the evaluator of an earlier test, held by its traceback
    deadline = time.monotonic() + 30
    while used_memory() > 1e6 and time.monotonic() < deadline:
        time.sleep(0.2)  # what an earlier test had there is given back a little later
    before = used_memory()
    with RayEvaluator(scorer, RayOptions()) as evaluator:
        evaluator.submit([ONE, TWO, THREE, FOUR])
        assert outcomes(evaluator, 4) == {a: score(a) for a in (ONE, TWO, THREE, FOUR)}
        weights = sum(values.nbytes for values in scorer.weights.values())
        # The driver's node has them, and each node with a worker: two at the most.
        assert weights < used_memory() - before < 3.2 * weights


def used_memory() -> float:
    """Bytes in the object stores of the cluster."""
    name = "object_store_memory"
    return ray.cluster_resources()[name] - ray.available_resources().get(name, 0.0)


def test_whoever_is_killed_hangs_or_raises(cluster, tmp_path):
    """In one evaluator, as its workers take seconds to start."""
    scorer, said = Slow(tmp_path), []
    with RayEvaluator(scorer, RayOptions(timeout_s=10, attempts=2), said.append) as evaluator:
        fill(evaluator, scorer, nodes=2)

        # Killed: it is scored on the other node, and what waited behind it has not failed.
        scorer.hold(ONE)
        evaluator.submit([ONE, TWO, THREE, FOUR])
        node, process = scorer.wait_until_begun(ONE)
        os.kill(process, signal.SIGKILL)
        assert outcomes(evaluator, 4) == {ONE: 0.08, TWO: 0.16, THREE: 0.24, FOUR: 0.32}
        assert scorer.beginnings(ONE)[1][0] != node
        assert [len(scorer.beginnings(a)) for a in (ONE, TWO, THREE, FOUR)] == [2, 1, 1, 1]

        # Hung: likewise, once it has taken too long.
        fill(evaluator, scorer, nodes=2)
        scorer.hold(FIVE)
        evaluator.submit([FIVE, TWO])
        assert outcomes(evaluator, 2) == {FIVE: 0.4, TWO: 0.16}
        first, second = scorer.beginnings(FIVE)
        assert first[0] != second[0]

        # Raising wherever it is: given up.
        scorer.always_raise(SIX)
        evaluator.submit([SIX, TWO])
        assert outcomes(evaluator, 2) == {SIX: Failed("ValueError: cannot score 48"), TWO: 0.16}
        assert len(scorer.beginnings(SIX)) == 2

    assert [line.partition("replaced: ")[2].partition(":")[0] for line in said] == [
        "ActorDiedError", "TimeoutError", "ValueError", "ValueError",
    ]  # fmt: skip


def test_a_node_is_lost_and_another_joins(cluster, tmp_path):
    scorer = Slow(tmp_path)
    with RayEvaluator(scorer, RayOptions()) as evaluator:
        fill(evaluator, scorer, nodes=2)
        scorer.hold(ONE)
        evaluator.submit([ONE, TWO])
        node, _ = scorer.wait_until_begun(ONE)
        (lost,) = (n for n in cluster.worker_nodes if n.node_id == node)
        cluster.remove_node(lost, allow_graceful=False)
        assert outcomes(evaluator, 2) == {ONE: 0.08, TWO: 0.16}
        cluster.add_node(**ROOM)
        fill(evaluator, scorer, nodes=3)


def fill(evaluator: Evaluator, scorer: Slow, nodes: int) -> None:
    """Score until there are two workers, and in all of so many nodes there has been one."""
    while True:
        before = len(scorer.beginnings(WARM_UP))
        evaluator.submit([WARM_UP, WARM_UP])
        outcomes(evaluator, 2)
        latest = {node for node, _ in scorer.beginnings(WARM_UP)[before:]}
        everywhere = {node for node, _ in scorer.beginnings(WARM_UP)}
        if len(latest) == 2 and len(everywhere) == nodes:
            return


def test_what_the_cluster_has_not_is_told(cluster, tmp_path):
    options = RayOptions(workers=1, cpus=7, gpus=0.5, placement_s=1)
    with RayEvaluator(Slow(tmp_path), options) as evaluator:
        evaluator.submit([ONE])
        with pytest.raises(NasError, match=r"asks for 7 CPU, 0\.5 GPU; the cluster has \d CPU"):
            evaluator.next()


def test_a_scorer_that_cannot_be_built_is_told(cluster):
    with RayEvaluator(Broken(), RayOptions(workers=1, attempts=1), lambda _: None) as evaluator:
        evaluator.submit([ONE])
        with pytest.raises(NasError, match=r"no Ray worker could start: .*no weights here"):
            evaluator.next()


@dataclass(frozen=True)
class Broken:
    def build(self):
        raise OSError("no weights here")
