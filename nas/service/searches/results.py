"""What a finished search hands over: an archive, a report and a summary for each model.

results/<search>/<number>/
  archive.zip       model/, model.onnx and both reports, stored
  report.json
  report.html
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from latency.atomic import sync
from nas.store.manifest import file_digest
from nas.store.result_folder import MODEL
from supernet.architecture import Architecture, EncoderShape
from supernet.errors import NasError

ARCHIVE, REPORT, PAGE = "archive.zip", "report.json", "report.html"

_DATE = (2020, 1, 1, 0, 0, 0)  # of every entry, so that equal models are equal bytes


def publish(output: Path, place: Path, *, number: int, target: str, budget: str) -> dict[str, Any]:
    """Put what a pipeline handed over into the service's results, all of it or nothing.

    Args:
        output: a folder of :func:`nas.pipeline.handing_over.hand_over`; it is removed.
        place: ``results/<search>/<number>``; it is replaced.
        number, target, budget: of the model, as the request gave them.

    Returns:
        The model as lists show it: plain values, by the names of docs/http.md.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as scratch:
        fresh = Path(scratch) / "fresh"
        fresh.mkdir()
        _pack(output, fresh / ARCHIVE)
        for name in (REPORT, PAGE):
            shutil.copyfile(output / name, fresh / name)
            sync(fresh / name)
        told = {"number": number, "target": target, "budget": budget}
        told |= _summary(json.loads((output / REPORT).read_text(encoding="utf-8")))
        packed = fresh / ARCHIVE
        told["archive"] = {"bytes": packed.stat().st_size, "sha256": file_digest(packed)}
        config = json.loads((output / MODEL / "config.json").read_text(encoding="utf-8"))
        told["shape"] = asdict(EncoderShape.from_config(config))
        if place.exists():
            os.rename(place, Path(scratch) / "old")
        os.rename(fresh, place)
        sync(place.parent)
    shutil.rmtree(output)
    return told


def read_report(place: Path) -> dict[str, Any]:
    """The content of a model's report.

    Raises:
        NasError: there is none.
    """
    try:
        content: dict[str, Any] = json.loads((place / REPORT).read_text(encoding="utf-8"))
    except OSError as error:
        raise NasError(f"model {place.parent.name}/{place.name} has no report") from error
    return content


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    percentile = report["budget_percentile"]
    return {
        "budget_ms": report["budget_ms"],
        "percentile": percentile,
        "architecture": report["architecture"],
        "native": Architecture.from_dict(report["architecture"]).is_native,
        "measured_ms": report[f"measured_p{percentile}_ms"],
        "p50_ms": report["measured_p50_ms"],
        "p95_ms": report["measured_p95_ms"],
        "predicted_ms": report["predicted_p50_ms"],
        "teacher_ms": report[f"teacher_p{percentile}_ms"],
        "speedup": report["speedup"],
        "metric": report["metric"],
        "score": report["score"],
        "teacher_score": report["teacher_score"],
        # Reports of earlier versions do not have these.
        "baseline_score": report.get("baseline_score"),
        "above_baseline": report.get("above_baseline"),
        "teacher_above_baseline": report.get("teacher_above_baseline"),
        "warnings": report.get("warnings", []),
        "parameters": report["parameters"],
        "teacher_parameters": report["teacher_parameters"],
    }


def _pack(output: Path, archive: Path) -> None:
    """Pack a folder into an archive without compression, which gains nothing on weights."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for path in sorted(path for path in output.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(str(path.relative_to(output)), _DATE)
            entry.external_attr = 0o644 << 16
            with path.open("rb") as source, packed.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, 1 << 20)
    sync(archive)
