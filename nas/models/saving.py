"""Writes a model folder that everyone may read who may read its other files."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nas.models.model_folders import CONFIG


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a model's configuration, weights and tokenizer.

    The library for weights lets their owner alone read them. Here they get the mode of the
    configuration, which is what the umask gives, so that a container's user may read them too.
    """
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        shutil.copymode(folder / CONFIG, weights)
