"""MixKD against NumPy in double precision, written from the paper's formulas."""

import math

import numpy as np
import pytest
import torch

from supernet.distill.losses import hard_loss, soft_loss
from supernet.distill.mixkd import Mixture, distance, mixed_hard_loss
from supernet.distill.stage import Mixup
from supernet.errors import NasError


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mixture() -> Mixture:
    return Mixture(torch.tensor([2, 0, 1, 3]), torch.tensor([0.9, 0.5, 0.2, 1.0]))


def test_embeddings_are_mixed_pair_by_pair() -> None:
    words = drawn(4, 3, 5)
    expected = np.stack(
        [
            r * words[i].double().numpy() + (1 - r) * words[j].double().numpy()
            for i, (j, r) in enumerate(zip([2, 0, 1, 3], [0.9, 0.5, 0.2, 1.0], strict=True))
        ]
    )
    np.testing.assert_allclose(mixture().embeddings(words), expected, atol=1e-6)


def test_the_mask_is_the_union() -> None:
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]])
    expected = [[1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 0, 0]]
    assert mixture().mask(mask).tolist() == expected


def test_the_labels_of_both_count_in_proportion() -> None:
    logits, labels = drawn(4, 3), torch.tensor([0, 2, 1, 1])
    scores = logits.double().numpy()
    log = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    pairs = zip([2, 0, 1, 3], [0.9, 0.5, 0.2, 1.0], strict=True)
    expected = np.mean(
        [-r * log[i, labels[i]] - (1 - r) * log[i, labels[j]] for i, (j, r) in enumerate(pairs)]
    )
    loss = mixed_hard_loss(logits, labels, mixture())
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_regressions_labels_are_values() -> None:
    logits, labels = drawn(4, 1), drawn(4, seed=1)
    value = logits[:, 0].double().numpy()
    own, other = labels.double().numpy(), labels[[2, 0, 1, 3]].double().numpy()
    ratio = np.array([0.9, 0.5, 0.2, 1.0])
    expected = (ratio * (value - own) ** 2 + (1 - ratio) * (value - other) ** 2).mean()
    assert mixed_hard_loss(logits, labels, mixture()).item() == pytest.approx(expected, rel=1e-5)


def test_a_ratio_of_one_is_plain_distillation() -> None:
    """Mixtures are then the texts themselves, and both losses those of plain KD."""
    whole = Mixture(torch.tensor([2, 0, 1, 3]), torch.ones(4))
    words, labels = drawn(4, 3, 5), torch.tensor([0, 2, 1, 1])
    student, teacher = drawn(4, 3, seed=1), drawn(4, 3, seed=2)
    assert torch.equal(whole.embeddings(words), words)
    assert mixed_hard_loss(student, labels, whole).item() == pytest.approx(
        hard_loss(student, labels).item()
    )
    kl = distance(student, teacher, Mixup(distance="kl"), 2.0)
    assert kl.item() == soft_loss(student, teacher, 2.0).item()
    mse = distance(student, teacher, Mixup(), 2.0)
    expected = ((student - teacher).double().numpy() ** 2).mean()
    assert mse.item() == pytest.approx(expected, rel=1e-5)


def test_a_pair_without_a_label_does_not_count() -> None:
    logits = drawn(4, 3).requires_grad_()
    loss = mixed_hard_loss(logits, torch.tensor([0, -1, 1, 1]), mixture())
    loss.backward()
    assert math.isfinite(loss.item())
    assert logits.grad is not None
    assert (logits.grad.abs().sum(dim=1) > 0).tolist() == [True, False, False, True]


def test_ratios_follow_the_beta_distribution() -> None:
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1)) of Beta(alpha, alpha), within 5 deviations."""
    ratio = Mixture.draw(20_000, 0.4, np.random.default_rng(0)).ratio.double().numpy()
    variance = 1 / (4 * 1.8)
    assert abs(ratio.mean() - 0.5) < 5 * np.sqrt(variance / 20_000)
    assert ratio.var() == pytest.approx(variance, rel=0.03)


def test_pairs_are_a_permutation() -> None:
    mixed = Mixture.draw(16, 0.4, np.random.default_rng(0))
    assert sorted(mixed.partner.tolist()) == list(range(16))


@pytest.mark.parametrize(
    ("options", "named"),
    [({"alpha": 0}, "alpha"), ({"student_weight": -1}, "student_weight"),
     ({"student_weight": 0, "teacher_weight": 0}, "both 0")],
)  # fmt: skip
def test_bad_settings_are_named(options: dict[str, float], named: str) -> None:
    with pytest.raises(NasError, match=named):
        Mixup(**options)  # type: ignore[arg-type]
