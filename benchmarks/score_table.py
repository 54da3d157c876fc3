"""Scores of thousands of sub-networks of one supernet: what the benchmarks of search look up.

    NAS_DATA=... python benchmarks/score_table.py --workspace search-workspace

Prepares teacher and supernet by the recipe ``full`` where the workspace lacks them, then counts the
correct answers of sub-networks with inherited weights: all of a small space, and a sample of one of
188,000. A sub-network's first layers are a shallower sub-network, so one pass gives all depths. A
killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from result_files import origin, write_result

from nas.data.tokenization import EncodedExamples
from nas.models.evaluate import Collate, collator
from nas.pipeline.pipeline import Groundwork
from nas.pipeline.recipe import load_recipe
from nas.pipeline.request import Lesson
from nas.pipeline.stage import Workbench
from nas.pipeline.supernet import trained_supernet_stage
from nas.settings import data_folder
from nas.store.result_folder import MODEL
from nas.store.workspace import Workspace
from nas.terminal.progress import Display
from supernet import elastic
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.configs import load_space
from supernet.model import Supernet
from supernet.space import SearchSpace

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("hidden_size", "num_layers", "num_heads", "qkv_size", "intermediate_size")

SMALL = replace(
    load_space("minilm"),
    name="minilm-small",
    hidden_size=tuple(range(64, 385, 32)),
    head_size=(32,),
    intermediate_size=(128, 256, 512, 768, 1024, 1536),
)
"""Evaluated whole: equal layers, heads of 32."""

FINE = replace(
    load_space("minilm"),
    name="minilm-fine",
    hidden_size=tuple(range(64, 385, 8)),
    intermediate_size=tuple(range(128, 1537, 32)),
)
"""Evaluated in a sample, from which all others' scores are fitted."""


class Row(NamedTuple):
    """One sub-network of equal layers, and its correct answers."""

    hidden_size: int
    num_layers: int
    num_heads: int
    qkv_size: int
    intermediate_size: int
    validation: int
    test: int


def deepest(space: SearchSpace) -> list[Architecture]:
    """The architectures of the largest depth, each of which holds all others as first layers."""
    alone = replace(space, num_layers=space.num_layers[-1:])
    return [architecture for block in alone.enumerate() for architecture in block]


@torch.inference_mode()
def correct_by_depth(
    supernet: Supernet, architecture: Architecture, examples: EncodedExamples, collate: Collate
) -> NDArray[np.int64]:
    """Correct answers with 1, 2, ... layers of ``architecture``, (layers,)."""
    assert supernet.weights.bert.pooler is not None
    assert examples.labels is not None
    labels = torch.tensor(examples.labels)
    correct = np.zeros(architecture.num_layers, dtype=np.int64)
    order = np.argsort(examples.lengths, kind="stable")
    for start in range(0, len(order), 64):
        rows = [int(row) for row in order[start : start + 64]]
        batch = collate([examples[row] for row in rows])
        batch.pop("labels")
        states = supernet(**batch, architecture=architecture).hidden_states
        for depth in range(architecture.num_layers):
            pooled = elastic.pool(supernet.weights.bert.pooler, states[depth + 1])
            classifier = supernet.weights.classifier
            logits = elastic.linear(classifier, pooled, classifier.out_features)
            correct[depth] += int((logits.argmax(1) == labels[rows]).sum())
    return correct


def read(path: Path) -> list[Row]:
    """The rows of a table; a last line that a kill cut short is left out."""
    if not path.exists():
        return []
    with path.open(newline="") as lines:
        rows = [row for row in csv.reader(lines) if len(row) == len(Row._fields)]
    return [Row(*map(int, row)) for row in rows[1:]]


def batch_of(rows: list[Row]) -> ArchitectureBatch:
    """The rows' architectures, of equal layers."""
    sizes = np.array([row[:5] for row in rows], dtype=np.int64)
    hidden, depth, *layer = sizes.T
    columns = [column[:, None] for column in layer]
    return ArchitectureBatch(hidden, depth, *columns, np.ones_like(columns[0]))


def groups(space: SearchSpace, sample: int | None, seed: int) -> Iterator[Architecture]:
    """The deepest architectures of a space, all or a sample, in random order."""
    found = deepest(space)
    order = np.random.default_rng(seed).permutation(len(found))[:sample]
    return (found[row] for row in order)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--task", default="trec", help="a folder under NAS_DATA, scored by accuracy"
    )
    parser.add_argument("--sample", type=int, default=1200, help="sixes of the fine space")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workspace", type=Path, default=Path("tailorbert-workspace"))
    arguments = parser.parse_args()
    folder = data_folder()
    if folder is None:
        raise SystemExit("set NAS_DATA to the folder of data sets")

    display = Display()
    lesson = Lesson(
        teacher="minilm", data=str(folder / arguments.task), recipe=load_recipe("full"),
        seed=arguments.seed,
    )  # fmt: skip
    bench = Workbench(Workspace(arguments.workspace, warn=display.warn), display)
    ground = Groundwork(lesson, bench)
    task = ground.task
    artifact = bench.make(
        trained_supernet_stage(lesson, load_space("minilm"), ground.teacher, task, ground.guide)
    )
    supernet = Supernet.from_pretrained(artifact.path / MODEL).eval()
    collate = collator(task.tokenizer)
    for space, sample in ((FINE, arguments.sample), (SMALL, None)):
        path = RESULTS / f"score_table-{arguments.task}-{space.name}.csv"
        known = {row[:1] + row[2:5] for row in read(path)}
        wanted = list(groups(space, sample, arguments.seed))
        with path.open("a", newline="") as out, display.bar(f"Score {space.name}") as bar:
            writer = csv.writer(out)
            if not known:
                writer.writerow(Row._fields)
            for done, architecture in enumerate(wanted, start=1):
                layer = architecture.layers[0]
                sizes = (layer.num_heads, layer.qkv_size, layer.intermediate_size)
                if (architecture.hidden_size, *sizes) not in known:
                    counts = [
                        correct_by_depth(supernet, architecture, split, collate)
                        for split in (task.validation, task.test)
                    ]
                    for depth, found in enumerate(zip(*counts, strict=True), start=1):
                        writer.writerow(
                            Row(architecture.hidden_size, depth, *sizes, *map(int, found))
                        )
                    out.flush()
                    os.fsync(out.fileno())
                bar(done, len(wanted))
    about = origin("cpu-1-thread") | {
        "task": arguments.task,
        "seed": arguments.seed,
        "validation": len(task.validation),
        "test": len(task.test),
        "spaces": {space.name: space.size for space in (SMALL, FINE)},
        "recipe": lesson.recipe.to_dict(),
    }
    write_result(RESULTS / f"score_table-{arguments.task}.json", about)


if __name__ == "__main__":
    main()
