"""A stage of the pipeline: what it is made from, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.store.workspace import Artifact, Workspace
from nas.terminal.progress import Display


def _nothing(_folder: Path) -> Sequence[str]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What makes one artifact.

    Args:
        name: the folder of the workspace in which the artifact lies.
        edition: raised whenever the same inputs come to make something else, so that a changed
            trainer never reuses what the old one made. The first edition is not part of the key.
        inputs: everything else that decides the outcome, as JSON values: settings, digests of data,
            and the keys of the artifacts that the stage reads. The artifact's key is made from
            name, edition and inputs.
        build: writes the artifact's files into a folder, and shows its progress. After a crash it
            is called with the same folder, and goes on from what it finds there; see
            :meth:`nas.store.workspace.Workspace.artifact`.
        lines: what to tell of the artifact in its folder, once it is there.
    """

    name: str
    edition: int
    inputs: Mapping[str, Any]
    build: Callable[[Path, Display], None]
    lines: Callable[[Path], Sequence[str]] = _nothing

    @property
    def all_inputs(self) -> dict[str, Any]:
        """What the key is made from, besides the name."""
        edition = {} if self.edition == 1 else {"edition": self.edition}
        return {**self.inputs, **edition}


@dataclass(frozen=True)
class Workbench:
    """Where stages are made, and where their progress shows."""

    workspace: Workspace
    display: Display

    def make(self, stage: Stage) -> Artifact:
        """The artifact of a stage: the one that stands in the workspace, or a new one.

        Raises:
            NasError: whatever the stage raises for a user to mend, and what
                :meth:`nas.store.workspace.Workspace.artifact` raises.
        """
        artifact = self.workspace.artifact(
            stage.name, stage.all_inputs, lambda folder: stage.build(folder, self.display)
        )
        lines = list(stage.lines(artifact.path))
        if lines:
            taken = "from the workspace" if artifact.reused else f"{artifact.seconds:.0f} s"
            lines[-1] += f" ({taken})"
        for line in lines:
            self.display.say(line)
        return artifact

    def has(self, stage: Stage) -> bool:
        """Whether the artifact seems to stand in the workspace; its checksums are not checked."""
        return self.workspace.has(stage.name, stage.all_inputs)
