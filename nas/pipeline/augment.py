"""Augmented texts: made once for a task, kept in the workspace, a JSON line each to look at."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertForSequenceClassification

from nas.data.task_data import Examples
from nas.models.evaluate import accelerator
from nas.pipeline.learning import EncodedTask
from nas.pipeline.stage import Stage
from nas.store.result_folder import MODEL
from nas.store.workspace import Artifact
from nas.terminal.progress import Display
from supernet.distill.augment import MaskedModel, Neighbours, Propose, copies_of
from supernet.distill.augmentation import Augmentation
from supernet.errors import NasError
from supernet.observe import word_table

AUGMENTED = "augmented.jsonl"


def augmented_stage(
    settings: Augmentation, teacher: Artifact, task: EncodedTask, max_length: int, seed: int
) -> Stage:
    """Stage ``augmented``: altered copies of the training texts, a JSON line each."""

    def build(folder: Path, display: Display) -> None:
        train = task.data.train
        propose = proposals(settings, teacher, task, max_length)
        with (
            display.bar("Augment the texts") as bar,
            (folder / f"{AUGMENTED}.tmp").open("w", encoding="utf-8") as file,
        ):
            for row in range(len(train)):
                rng = np.random.default_rng((seed, row))
                firsts = copies_of(train.text_a[row], propose, settings, rng)
                if train.text_b is None:
                    lines = [{"row": row, "text_a": text} for text in firsts]
                else:
                    seconds = copies_of(train.text_b[row], propose, settings, rng)
                    lines = [
                        {"row": row, "text_a": a, "text_b": b}
                        for a, b in zip(list(firsts), seconds, strict=True)
                    ]
                file.writelines(json.dumps(line) + "\n" for line in lines)
                bar(row + 1, len(train))
        os.replace(folder / f"{AUGMENTED}.tmp", folder / AUGMENTED)

    inputs = {
        "teacher": teacher.key,
        "data": task.data.digest,
        "augmentation": {
            key: value for key, value in asdict(settings).items() if key != "originals"
        },
        "max_length": max_length,
        "seed": seed,
    }
    return Stage(
        name="augmented",
        edition=1,
        inputs=inputs,
        build=build,
        lines=lambda folder: [f"augmented {folder / AUGMENTED}"],
    )


def proposals(
    settings: Augmentation, teacher: Artifact, task: EncodedTask, max_length: int
) -> Propose:
    """What proposes other words: the masked language model, or the teacher's embeddings.

    Raises:
        NasError: a masked language model that cannot be loaded, or has no mask token.
    """
    table = word_table(BertForSequenceClassification.from_pretrained(teacher.path / MODEL))
    neighbours = Neighbours(table.weight, task.tokenizer, settings.candidates)
    if settings.masked_model is None:
        return neighbours
    place = settings.masked_model
    try:
        model, info = AutoModelForMaskedLM.from_pretrained(place, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise NasError(
            f"augmentation: masked_model {place} does not load: {str(error).splitlines()[0]}"
        ) from error
    if info["missing_keys"]:
        raise NasError(
            f"augmentation: masked_model {place} was not trained to predict words: it has no "
            f"{min(info['missing_keys'])}"
        )
    torch.nn.Module.to(model.eval(), accelerator())
    if tokenizer.mask_token_id is None:
        raise NasError(f"augmentation: masked_model {place} has no mask token")
    return MaskedModel(
        model, tokenizer, settings.candidates, others=neighbours, max_length=max_length
    )


def read_augmented(artifact: Artifact, train: Examples, originals: int) -> Examples:
    """The training examples, so many times, and their altered copies, which have no labels."""
    lines = (artifact.path / AUGMENTED).read_text(encoding="utf-8").splitlines()
    copies = [json.loads(line) for line in lines]
    labels = train.labels
    assert labels is not None
    unknown = np.full(len(copies), np.nan) if labels.dtype.kind == "f" else np.full(len(copies), -1)
    text_b = None
    if train.text_b is not None:
        text_b = originals * train.text_b + tuple(copy["text_b"] for copy in copies)
    return Examples(
        originals * train.text_a + tuple(copy["text_a"] for copy in copies),
        text_b,
        np.concatenate([np.tile(labels, originals), unknown]),
    )
