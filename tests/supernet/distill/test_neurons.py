"""What neurons are worth, against ridge regression in NumPy on what a teacher computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import BertForSequenceClassification

from supernet.distill.evidence import Evidence
from supernet.distill.fitted_start import STRENGTH
from supernet.distill.neurons import explained
from supernet.distill.packed_texts import PackedTexts
from supernet.student import architecture_of
from tests.supernet.distill.test_fitted_start import SMALL, new, texts


@torch.no_grad()
def test_leading_neurons_explain_what_a_regression_on_them_does(
    bert: BertForSequenceClassification,
) -> None:
    """A student of its teacher's sizes has its neurons, and is to put out what it puts out."""
    batches = texts(3)
    student = new(bert, architecture_of(bert.config))
    found = explained(student, Evidence(bert, PackedTexts.of(batches)))
    for index, layer in enumerate(bert.bert.encoder.layer):
        given: list[list[torch.Tensor]] = [[], [], []]

        def keep(module: Any, inputs: Any, _: Any, given: Any = given) -> None:
            outputs = module.dense(inputs[0])
            for kept, one in zip(given, (inputs[0], outputs, outputs + inputs[1]), strict=True):
                kept.append(one)

        handle = layer.output.register_forward_hook(keep)
        for batch in batches:
            bert(**batch)
        handle.remove()
        real = torch.cat([batch["attention_mask"].flatten() for batch in batches]).bool().numpy()
        neurons, outputs, sums = (
            torch.cat([one.flatten(0, 1) for one in part]).double().numpy()[real] for part in given
        )
        neurons, outputs, sums = (one - one.mean(0) for one in (neurons, outputs, sums))
        ridge = STRENGTH * (neurons**2).sum(0).mean()
        for count in (1, 7, neurons.shape[1]):
            some = neurons[:, :count]
            cross = some.T @ outputs
            inverse = np.linalg.inv(some.T @ some + ridge * np.eye(count))
            expected = np.trace(cross.T @ inverse @ cross) / (sums**2).sum()
            np.testing.assert_allclose(found[index, count - 1], expected, rtol=1e-3)


def test_more_neurons_explain_more(bert: BertForSequenceClassification) -> None:
    found = explained(new(bert, SMALL), Evidence(bert, PackedTexts.of(texts(4))))
    assert found.shape == (SMALL.num_layers, SMALL.layers[0].intermediate_size)
    assert (np.diff(found, axis=1) >= 0).all()
    assert 0 < found.min() < found.max() < 1
