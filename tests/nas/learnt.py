"""A task that a tiny teacher learns in seconds, with words for tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from transformers import BertConfig, BertModel, BertTokenizerFast

from nas.pipeline.pipeline import Groundwork
from nas.pipeline.recipe import Recipe, parse_recipe
from nas.pipeline.request import Lesson
from nas.pipeline.stage import Workbench
from nas.store.workspace import Workspace
from nas.terminal.progress import Display

WORDS = [f"word{number}" for number in range(40)]
CLASSES = 3
POSITIONS = 64

RECIPE: dict[str, Any] = {
    "max_length": 16,
    "finetune": {"learning_rate": 3e-3, "batch_size": 16, "epochs": 6, "patience": 3},
    "importance_examples": 64,
    "supernet": None,
    "scores": "fitted",
    "race": {"finalists": 3, "rungs": [4, 6]},
    "distill": {
        "start": "fitted",
        "checks": 2,
        "stages": [
            {
                "name": "distil",
                "training": {"steps": 8, "batch_size": 16, "learning_rate": 1e-3},
                "losses": {"hard": 0.3, "soft": 1.0, "hidden": 1.0},
            }
        ],
    },
}


def write_teacher(folder: Path) -> None:
    """A plain encoder of 3 layers of 32, and its tokenizer."""
    torch.manual_seed(0)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: row for row, word in enumerate([*special, *WORDS])}
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=POSITIONS, initializer_range=0.1,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)


def write_data(folder: Path, count: int = 320, *, at_random: bool = False) -> None:
    """Texts of 3 to 10 words, whose class is that of the first one's number, or drawn by lot."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(count):
        numbers = rng.integers(0, len(WORDS), rng.integers(3, 11))
        text = " ".join(WORDS[number] for number in numbers)
        label = rng.integers(CLASSES) if at_random else numbers[0] % CLASSES
        rows.append({"text": text, "label": f"class{label}"})
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))


class Lines(Display):
    """A display that keeps what it warns of."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.warned: list[str] = []

    def warn(self, line: str) -> None:
        self.warned.append(line)


def ground_in(folder: Path, display: Display | None = None, **changes: Any) -> Groundwork:
    """What work on that teacher and data begins with; both are written where they are missing."""
    if not (folder / "teacher").is_dir():
        write_teacher(folder / "teacher")
        write_data(folder / "data")
    recipe: Recipe = parse_recipe(RECIPE | changes, "recipe")
    lesson = Lesson(teacher=str(folder / "teacher"), data=str(folder / "data"), recipe=recipe)
    return Groundwork(lesson, Workbench(Workspace(folder / "workspace"), display or Display()))
