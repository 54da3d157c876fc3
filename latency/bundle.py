"""Writes a bundle: one file that profiles a device on which only NumPy and ONNX Runtime run.

A bundle is a Python zip application. It holds the graphs of a static design without their weights
(:mod:`latency.weightless`), the modules of this project that measuring needs, and
:mod:`latency.bundle_runner`, which runs them on the device.
"""

from __future__ import annotations

import ast
import io
import json
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from latency.atomic import replacing
from latency.bundle_runner import MANIFEST
from latency.calls import Subject
from latency.design import Planned
from latency.kernels import Kernel
from latency.onnx_graph import classifier_model, kernel_model
from latency.profile_rows import subject_row
from latency.profiler import REFERENCE_WORKLOAD, REFERENCES
from latency.quantization import quantized
from latency.runtimes import kernel_shape
from latency.static_design import static_design
from latency.target import Target, Workload
from latency.weightless import Stub, stripped
from supernet.architecture import EncoderShape
from supernet.errors import NasError
from supernet.space import SearchSpace

ENTRY = "latency.bundle_entry"
RUNNER = "latency.bundle_runner"
OURS = ("latency", "supernet")

_SHEBANG = b"#!/usr/bin/env python3\n"
_DATE = (2020, 1, 1, 0, 0, 0)  # date of every entry: equal bundles have equal bytes


def write_bundle(
    path: Path,
    target: Target,
    spaces: Sequence[SearchSpace],
    workloads: Sequence[Workload],
    *,
    threads: int | None = None,
    chosen: int = 120,
    drawn: int = 60,
    seed: int = 0,
    shape: EncoderShape = EncoderShape(),
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the bundle that profiles ``target`` for ``spaces``.

    Args:
        workloads: batch sizes and sequence lengths to measure.
        threads: threads of the target; None leaves the number to the device.
        chosen, drawn: see :func:`latency.static_design.static_design`.
        progress: called with the number of graphs built, and the number of all graphs.

    Returns:
        The size of the bundle in bytes.

    Raises:
        NasError: bundles do not support the target, or ``path`` cannot be written.
    """
    _check(target, workloads, shape)
    plan = static_design(spaces, workloads, chosen=chosen, drawn=drawn, seed=seed)
    subjects = list(dict.fromkeys(subject for subject, _ in plan))
    subjects += [Subject(kernel, REFERENCE_WORKLOAD) for kernel in REFERENCES]
    longest = max(one.sequence_length for one in workloads)
    small = kernel_shape(shape, target.of(Workload(1, longest)))
    graphs, weights = [], []
    for number, subject in enumerate(subjects):
        graph, stubs = graph_of(subject, target, small, seed)
        graphs.append(graph)
        weights.append(stubs)
        if progress:
            progress(number + 1, len(subjects))
    manifest = {
        "target": target.to_dict(),
        "threads": threads,
        "workloads": [list(one) for one in workloads],
        "spaces": [space.to_dict() for space in spaces],
        "shape": asdict(shape),
        "seed": seed,
        "subjects": [
            subject_row(one) | {"weights": stubs}
            for one, stubs in zip(subjects, weights, strict=True)
        ],
        "plan": _numbered(plan, subjects),
    }
    content = _archive(json.dumps(manifest), graphs)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    except OSError as error:
        raise NasError(f"bundle {path} cannot be written: {error.strerror}") from error
    return len(content)


def sources(module: str) -> dict[str, Path]:
    """The files of ``module`` and of all modules of this project that it imports, by module."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or name.partition(".")[0] not in OURS:
            continue
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        found[name] = Path(spec.origin)
        waiting += _imports(found[name])
        waiting += [name.rpartition(".")[0]] if "." in name else []
    return found


def _imports(path: Path) -> Iterator[str]:
    """The modules that a file imports when it loads. Imports inside functions do not count.

    ``from package import module`` gives the package only; this project has no such import.
    """
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _check(target: Target, workloads: Sequence[Workload], shape: EncoderShape) -> None:
    if (target.device, target.runtime) != ("cpu", "onnxruntime"):
        raise NasError(
            f"a bundle runs onnxruntime on cpu, not {target.runtime} on {target.device}: install "
            "tailorbert there and profile it directly"
        )
    longest = max(one.sequence_length for one in workloads)
    if longest > shape.max_positions:
        raise NasError(
            f"target: sequence_length {longest} exceeds the model's {shape.max_positions} positions"
        )


def graph_of(
    subject: Subject, target: Target, shape: EncoderShape, seed: int
) -> tuple[bytes, dict[str, Stub]]:
    """The graph of a subject, in the target's number type, and the stubs of its weights."""
    if isinstance(subject.what, Kernel):
        own = kernel_shape(shape, target.of(subject.workload))
        model = kernel_model(subject.what, own, copies=subject.copies, seed=seed)
    else:
        model = classifier_model(subject.what, shape, seed=seed)
    return stripped(quantized(model) if target.dtype == "int8" else model)


def _numbered(plan: Sequence[Planned], subjects: Sequence[Subject]) -> list[tuple[int, str]]:
    number = {subject: index for index, subject in enumerate(subjects)}
    return [(number[subject], role) for subject, role in plan]


def _archive(manifest: str, graphs: Sequence[bytes]) -> bytes:
    """The zip application's bytes."""
    entries: dict[str, bytes] = {"__main__.py": sources(ENTRY)[ENTRY].read_bytes()}
    for name, path in sources(RUNNER).items():
        folder = name.replace(".", "/")
        inside = f"{folder}/__init__.py" if path.name == "__init__.py" else f"{folder}.py"
        entries[inside] = path.read_bytes()
    entries[MANIFEST] = manifest.encode()
    entries |= {f"graphs/{number}.onnx": graph for number, graph in enumerate(graphs)}
    buffer = io.BytesIO(_SHEBANG)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for inside, content in entries.items():
            archive.writestr(
                zipfile.ZipInfo(inside, _DATE), content, zipfile.ZIP_DEFLATED, compresslevel=9
            )
    return buffer.getvalue()
