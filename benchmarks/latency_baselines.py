"""What whole models' timings alone teach: the predictors that ours is compared with.

Each function learns from architectures and their milliseconds on a target, and returns a function
from architectures to milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from sklearn.ensemble import GradientBoostingRegressor

from latency.target import Target
from supernet.architecture import Architecture, EncoderShape

FloatArray = NDArray[np.float64]
SHAPE = EncoderShape()
Baseline = Callable[[Sequence[Architecture]], FloatArray]


def executed_flops(architecture: Architecture, target: Target) -> int:
    """Of the layers that are computed for all tokens; what the runtime skips is not counted."""
    layers = architecture.layers
    if target.first_token_last_layer:
        layers = layers[:-1]
    if not layers:
        return 0
    computed = Architecture(architecture.hidden_size, layers)
    return computed.flops(target.sequence_length, target.batch_size)


def flops_line(
    architectures: Sequence[Architecture], times_ms: FloatArray, target: Target
) -> Baseline:
    """Milliseconds = a + b FLOPs, by least squares of the relative error."""

    def terms(of: Sequence[Architecture]) -> FloatArray:
        flops = [executed_flops(a, target) for a in of]
        return np.stack([np.ones(len(flops)), np.array(flops) / 1e6], axis=1)

    weighted = terms(architectures) / times_ms[:, None]
    line = np.linalg.lstsq(weighted, np.ones(len(times_ms)), rcond=None)[0]
    return lambda of: terms(of) @ line


def boosted_trees(
    architectures: Sequence[Architecture], times_ms: FloatArray, target: Target
) -> Baseline:
    """Trees on the logarithms of depth, widths, FLOPs and parameters."""

    def features(of: Sequence[Architecture]) -> FloatArray:
        table = [
            [
                a.num_layers,
                a.hidden_size,
                *(
                    np.mean([getattr(layer, name) for layer in a.layers])
                    for name in ("num_heads", "qkv_size", "intermediate_size")
                ),
                1 + executed_flops(a, target),
                a.parameters(SHAPE),
            ]
            for a in of
        ]
        return np.log(np.array(table, dtype=np.float64))

    trees = GradientBoostingRegressor(n_estimators=300, learning_rate=0.05, random_state=0)
    trees.fit(features(architectures), np.log(times_ms))
    return lambda of: np.exp(trees.predict(features(of)))


def autotinybert_mlp(
    architectures: Sequence[Architecture], times_ms: FloatArray, target: Target
) -> Baseline:
    """AutoTinyBERT's predictor (Yin et al. 2021): hidden size, depth, mean intermediate, mean qkv.

    Three hidden layers of 2,000, mean squared error, 5,000 steps of Adam at 1e-5 on batches of 32;
    features and milliseconds are scaled to at most 1.
    """
    import torch

    del target

    def features(of: Sequence[Architecture]) -> FloatArray:
        return np.array(
            [
                [
                    a.hidden_size,
                    a.num_layers,
                    np.mean([layer.intermediate_size for layer in a.layers]),
                    np.mean([layer.qkv_size for layer in a.layers]),
                ]
                for a in of
            ],
            dtype=np.float64,
        )

    torch.manual_seed(0)
    torch.set_num_threads(max(1, os.cpu_count() or 1))
    scale, longest = features(architectures).max(axis=0), times_ms.max()
    inputs = torch.tensor(features(architectures) / scale, dtype=torch.float32)
    targets = torch.tensor(times_ms / longest, dtype=torch.float32)
    widths = [4, 2000, 2000, 2000]
    layers: list[torch.nn.Module] = []
    for before, after in pairwise(widths):
        layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(2000, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    for _ in track(range(5000), "AutoTinyBERT's MLP"):
        batch = torch.randint(len(inputs), (min(32, len(inputs)),))
        loss = torch.nn.functional.mse_loss(model(inputs[batch])[:, 0], targets[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def predict(of: Sequence[Architecture]) -> FloatArray:
        with torch.inference_mode():
            found = model(torch.tensor(features(of) / scale, dtype=torch.float32))[:, 0].numpy()
        return np.maximum(found.astype(np.float64) * longest, 1e-3)

    return predict
