"""Int8 forms of a finished model, each scored and timed beside float32."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from latency.beside import held, time_models
from latency.quantization import calibrated, quantized
from latency.runtimes import Inputs, runtime_of
from latency.target import Target
from nas.data.task_data import TaskData
from nas.data.tokenization import encode
from nas.models.evaluate import collator, score
from nas.models.export import onnx_model, save_onnx
from nas.models.measured import load_model, onnx_logits
from nas.models.saving import save_model
from nas.store.result_folder import MODEL, ONNX
from nas.tasks.labels import align_labels, check_labels
from supernet.errors import NasError
from supernet.student import shape_of

FORMS = ("float32", "dynamic", "static")
CALIBRATION_EXAMPLES = 256


@dataclass(frozen=True)
class Format:
    """A number format of a model, measured.

    Args:
        name: one of :data:`FORMS`.
        validation, test: the task's metric.
        megabytes: of the ONNX file.
    """

    name: str
    validation: float
    test: float
    p50_ms: float
    p95_ms: float
    megabytes: float


def quantize_folder(
    folder: Path, data: TaskData, target: Target, form: str, output: Path, *, max_length: int
) -> list[Format]:
    """Write a model folder whose ``model.onnx`` is of ``form``, and say how all forms compare.

    Args:
        target: of ONNX Runtime on the CPU in float32; the int8 forms run on its threads.
        output: receives ``model/`` and ``model.onnx``; must not exist.

    Raises:
        NasError: another target, an unknown form, a folder without model, or for other labels.
    """
    if form not in FORMS[1:]:
        raise NasError(f"form must be {' or '.join(FORMS[1:])}, not {form!r}")
    if (target.runtime, target.device, target.dtype) != ("onnxruntime", "cpu", "float32"):
        raise NasError(f"target {target}: give one of onnxruntime on the cpu with dtype float32")
    if folder.resolve() in (output.resolve(), *output.resolve().parents):
        raise NasError(f"output {output} lies within the model {folder}: choose another folder")
    if output.exists():
        raise NasError(f"output {output} exists: choose another folder, or remove it first")
    model, tokenizer = load_model(folder)
    check_labels(f"model {folder}", model.config, data.task)
    align_labels(model, data.task)
    whole = onnx_model(model)
    graphs = {
        "float32": whole,
        "dynamic": quantized(whole),
        "static": calibrated(whole, calibration(data, tokenizer, max_length)),
    }
    scratch = output.with_name(f"{output.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    # Not a copy: the model's head is in the task's order by now.
    save_model(model, tokenizer, scratch / MODEL)
    runtime = runtime_of(target)
    files = {name: scratch / f"{name}.onnx" for name in graphs}
    for name, graph in graphs.items():
        save_onnx(graph, files[name], scratch / MODEL)
    with held(target):
        models = [runtime.load(path, target) for path in files.values()]
    latencies = time_models(models, target, shape_of(model.config))
    collate, metric = collator(tokenizer), data.task.metric
    found = []
    for name, one, latency in zip(files, models, latencies, strict=True):
        values = {
            split: score(
                onnx_logits(one),
                encode(data.splits[split], tokenizer, max_length),
                collate,
                torch.device("cpu"),
                metric,
            )
            for split in ("validation", "test")
        }
        megabytes = files[name].stat().st_size / 1e6
        found.append(
            Format(
                name, **values, p50_ms=latency.p50_ms, p95_ms=latency.p95_ms, megabytes=megabytes
            )
        )
    del models
    files[form].rename(scratch / ONNX)
    for path in files.values():
        path.unlink(missing_ok=True)
    scratch.rename(output)
    return found


def calibration(
    data: TaskData, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[Inputs]:
    """Training examples in batches of one length, as a model serves them."""
    rows = np.random.default_rng(0).permutation(len(data.train))[:CALIBRATION_EXAMPLES]
    examples = encode(data.train.take(rows.tolist()), tokenizer, max_length)
    collate = collator(tokenizer)
    for row in range(len(examples)):
        batch = collate([examples[row]])
        batch.pop("labels", None)
        batch.setdefault("token_type_ids", torch.zeros_like(batch["input_ids"]))
        yield {name: values.numpy() for name, values in batch.items()}
