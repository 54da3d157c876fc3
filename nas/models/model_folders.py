"""What a folder without a model holds instead, and what to do about it."""

from __future__ import annotations

from pathlib import Path

CONFIG = "config.json"


def without_model(folder: Path) -> str:
    """What to do about a folder that has no ``config.json``: one line, after a colon.

    Adapters of peft, the output folders of trainers and of sentence-transformers, and results of
    ours are known by what they hold.
    """
    if (folder / "adapter_config.json").is_file():
        return (
            f"it holds an adapter: merge it into its model first, with peft's "
            f"AutoPeftModelForSequenceClassification.from_pretrained({str(folder)!r})"
            ".merge_and_unload().save_pretrained(FOLDER), and save the tokenizer there too"
        )
    inside = sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
    checkpoints = [path for path in inside if path.name.startswith("checkpoint-")]
    if checkpoints:
        latest = max(checkpoints, key=lambda path: (len(path.name), path.name))
        return f"it holds checkpoints of a training; give one of them, as {latest}"
    if (folder / "modules.json").is_file() and inside:
        return f"its encoder stands in a folder of its own; give {inside[0]}"
    if inside:
        return f"models stand in folders of it; give one of them, as {inside[0]}"
    return f"the folder holds no {CONFIG}"
