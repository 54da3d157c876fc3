"""Compression of a student by factors of its matrices, and the form of it that runs fastest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from latency.beside import held, time_models
from latency.runtimes import runtime_of
from latency.target import Target
from nas.models.export import onnx_model, save_onnx
from nas.models.measured import load_model
from nas.store.result_folder import MODEL, ONNX
from nas.store.workspace import Artifact
from nas.terminal.progress import Display
from supernet.compress.kronecker import densified, factorized, plan, unfitted
from supernet.distill.fitted_start import fit_to_teacher
from supernet.errors import NasError, check_number
from supernet.factors import Factors, sums_of
from supernet.student import shape_of


@dataclass(frozen=True)
class Kronecker:
    """How small a student is made.

    Args:
        ratio: its parameters over those of the compressed one.
        terms: Kronecker products summed for a matrix; None for as many columns times rows as the
            ratio allows.

    Raises:
        NasError: a ratio that makes nothing smaller, or terms below 1.
    """

    ratio: float
    terms: int | None = None

    def __post_init__(self) -> None:
        check_number("ratio", self.ratio, 1.01, 1e6)
        if self.terms is not None:
            check_number("terms", self.terms, 1, whole=True)

    @property
    def identity(self) -> str:
        """Tells this compression from others, among a stage's inputs."""
        return f"factors {self.ratio} {self.terms}"

    def nearest(self, model: PreTrainedModel) -> PreTrainedModel:
        """A copy of a model, with the factors whose products are nearest to its matrices.

        Raises:
            NasError: the model cannot be made so small.
        """
        whole, factors = self._planned(model)
        return factorized(whole, factors)

    def fitted(
        self, model: PreTrainedModel, texts: Sequence[Mapping[str, Tensor]], display: Display
    ) -> PreTrainedModel:
        """A copy of a model, with factors fitted to what it computes.

        Args:
            texts: padded batches that the factors are fitted on.

        Raises:
            NasError: the model cannot be made so small.
        """
        whole, factors = self._planned(model)
        small = unfitted(whole, factors)
        with display.bar("Fit the factors to the student") as bar:
            fit_to_teacher(small, whole, texts, bar)
        return small

    def _planned(self, model: PreTrainedModel) -> tuple[PreTrainedModel, Mapping[str, Factors]]:
        """The model with whole matrices, and the sizes of their factors."""
        whole = densified(model) if getattr(model.config, "factors", None) else model
        try:
            parameters = int(model.num_parameters() / self.ratio)
            return whole, plan(whole, parameters, sums_of(self.terms))
        except NasError as error:
            terms = "low rank" if self.terms is None else f"{self.terms} terms"
            raise NasError(f"ratio {self.ratio:g} with {terms}: {error}") from error


@dataclass(frozen=True)
class Form:
    """A way to run a compressed model, timed.

    Args:
        name: ``factored``: two small products for each large one; ``dense``: the matrices formed.
        megabytes: of the ONNX file.
    """

    name: str
    p50_ms: float
    p95_ms: float
    megabytes: float


def check_forms(target: Target) -> None:
    """Refuse a target that forms are not compared on.

    Raises:
        NasError: one that is not of ONNX Runtime in float32.
    """
    if target.runtime != "onnxruntime" or target.dtype != "float32":
        raise NasError(f"target {target}: forms are compared in onnxruntime with dtype float32")


def timed_forms(student: Artifact, target: Target, folder: Path) -> list[Form]:
    """Time the factored and the dense form side by side; the faster becomes ``model.onnx``.

    Args:
        folder: receives it.
    """
    model, _ = load_model(student.path / MODEL)
    files = {"factored": folder / "factored.onnx", "dense": folder / "dense.onnx"}
    save_onnx(onnx_model(model), files["factored"], student.path / MODEL)
    save_onnx(onnx_model(densified(model)), files["dense"], student.path / MODEL)
    runtime = runtime_of(target)
    with held(target):
        loaded = [runtime.load(path, target) for path in files.values()]
        latencies = time_models(loaded, target, shape_of(model.config))
    forms = [
        Form(name, latency.p50_ms, latency.p95_ms, path.stat().st_size / 1e6)
        for (name, path), latency in zip(files.items(), latencies, strict=True)
    ]
    fastest = min(forms, key=lambda form: form.p50_ms)
    files[fastest.name].replace(folder / ONNX)
    for path in files.values():
        path.unlink(missing_ok=True)
    return forms
