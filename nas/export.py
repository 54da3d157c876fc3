"""A developed model as files: a Hugging Face folder and an ONNX model that agree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from latency.onnx_graph import classifier_model
from latency.runtimes import runtime_of
from latency.target import Target
from supernet.errors import NasError
from supernet.student import architecture_of, shape_of

MODEL = "model"
ONNX = "model.onnx"
TOLERANCE = 1e-4
"""How far an ONNX logit may lie from PyTorch's, relative to logits of size 1."""


def export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    sample: Mapping[str, Tensor],
) -> None:
    """Write ``model/`` (config, weights, tokenizer) and ``model.onnx`` into ``folder``.

    Args:
        model: BERT or TailorBERT, in evaluation mode.
        sample: real inputs, (batch, tokens) each, on which both forms must agree.

    Raises:
        NasError: they do not, or an activation that the ONNX form does not have.
    """
    model.save_pretrained(folder / MODEL)
    tokenizer.save_pretrained(folder / MODEL)
    onnx.save(onnx_model(model), str(folder / ONNX))
    difference = onnx_difference(model, folder / ONNX, sample)
    if not difference <= TOLERANCE:
        raise NasError(
            f"the ONNX model's logits differ from PyTorch's by {difference:.1e}, "
            f"more than {TOLERANCE:.0e}"
        )


def onnx_model(model: PreTrainedModel) -> onnx.ModelProto:
    """The ONNX form of a BERT or TailorBERT classifier."""
    config: Any = model.config
    weights = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
    return classifier_model(
        architecture_of(config),
        shape_of(config),
        weights,
        layer_norm_eps=config.layer_norm_eps,
    )


@torch.inference_mode()
def onnx_difference(model: PreTrainedModel, path: Path, sample: Mapping[str, Tensor]) -> float:
    """The largest difference of the two forms' logits, relative where they exceed 1."""
    size = tuple(sample["input_ids"].shape)
    target = Target(threads=1, batch_size=size[0], sequence_length=size[1])
    inputs = {"token_type_ids": np.zeros(size, np.int64)} | {
        name: values.cpu().numpy() for name, values in sample.items()
    }
    expected = model(**{n: v.to(model.device) for n, v in sample.items()}).logits.cpu().numpy()
    actual = runtime_of(target).load(path, target)(inputs)
    return float(np.max(np.abs(actual - expected) / np.maximum(np.abs(expected), 1.0)))
