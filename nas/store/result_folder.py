"""The folder that a user receives: what may stand in it, and how it comes to its place whole.

Nothing heavy is imported here: who fetches a result from a service needs no torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from nas.store.full_disk import full_disk_reported, nearest_existing
from supernet.errors import NasError

MODEL = "model"
ONNX = "model.onnx"
DISTILLATION = "distillation.json"
RESULT = {MODEL, ONNX, "report.html", "report.json", DISTILLATION}
"""What an output folder may hold."""


def check_output(output: Path, workspace: Path | None = None) -> None:
    """Refuse an output that cannot be written, or would be written over what no run of ours made.

    Args:
        workspace: that must not be replaced either.

    Raises:
        NasError: a file, a folder with other content, one that holds the workspace, or one in a
            place that is no folder to write to.
    """
    output = output.resolve()
    if workspace is not None and workspace.resolve().is_relative_to(output):
        raise NasError(f"output {output} would replace the workspace {workspace}")
    if output.exists() and not (
        output.is_dir() and {entry.name for entry in output.iterdir()} <= RESULT
    ):
        raise NasError(f"output {output} exists and is no earlier result: choose another folder")
    parent = nearest_existing(output.parent)
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise NasError(f"output {output} cannot be made: {parent} is no folder to write to")


@contextmanager
def replacing_folder(output: Path) -> Iterator[Path]:
    """An empty folder beside ``output`` to fill, which then takes its place whole.

    A failure leaves ``output`` as it was and nothing beside it.

    Raises:
        NasError: the disk is full.
    """
    output = output.absolute()
    with full_disk_reported(output.parent):
        output.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as scratch:
            fresh = Path(scratch) / "fresh"
            fresh.mkdir()
            yield fresh
            if output.exists():
                os.rename(output, Path(scratch) / "old")
            os.rename(fresh, output)
