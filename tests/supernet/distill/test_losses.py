"""Each loss against NumPy in double precision, written from the papers' formulas."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from supernet.distill.losses import (
    attention_loss,
    hard_loss,
    hidden_loss,
    relation_heads,
    relation_loss,
    soft_loss,
)

Array = NDArray[np.float64]


def softmax(values: Array) -> Array:
    exponentials = np.exp(values - values.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_soft_loss_is_the_softened_divergence(temperature: float) -> None:
    student, teacher = drawn(5, 4, seed=1), drawn(5, 4, seed=2)
    p = softmax(teacher.double().numpy() / temperature)
    q = softmax(student.double().numpy() / temperature)
    expected = temperature**2 * (p * np.log(p / q)).sum(axis=-1).mean()
    assert soft_loss(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-5)


def test_soft_loss_of_a_regression_is_the_squared_error() -> None:
    student, teacher = drawn(5, 1, seed=1), drawn(5, 1, seed=2)
    expected = ((student - teacher).double().numpy() ** 2).mean()
    assert soft_loss(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-5)


def test_hard_loss() -> None:
    logits, labels = drawn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    p = softmax(logits.double().numpy())
    expected = -np.log(p[np.arange(5), labels.numpy()]).mean()
    assert hard_loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)
    values = drawn(5, seed=3)
    expected = ((logits[:, 0] - values).double().numpy() ** 2).mean()
    assert hard_loss(logits[:, :1], values).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("labels", [[0, -1, 1, -1, 2], [-1] * 5])
def test_examples_without_a_label_do_not_count(labels: list[int]) -> None:
    logits = drawn(5, 4).requires_grad_()
    known = [row for row, label in enumerate(labels) if label >= 0]
    loss = hard_loss(logits, torch.tensor(labels))
    p = softmax(logits.detach().double().numpy())
    expected = np.mean([-np.log(p[row, labels[row]]) for row in known]) if known else 0.0
    assert loss.item() == pytest.approx(expected, rel=1e-5)

    values = torch.tensor([0.5 * label if label >= 0 else np.nan for label in labels])
    value = hard_loss(logits[:, :1], values)
    errors = logits.detach().double().numpy()[known, 0] - values.double().numpy()[known]
    assert value.item() == pytest.approx((errors**2).mean() if known else 0.0, rel=1e-5)
    if known:
        (loss + value).backward()
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("heads", [(3, 3), (2, 3)])
def test_attention_loss_compares_scores_of_real_pairs(heads: tuple[int, int]) -> None:
    """Head by head, or their means where the numbers differ; head sizes may differ in any case."""
    student = drawn(2, heads[0], 4, 5, seed=1), drawn(2, heads[0], 4, 5, seed=2)
    teacher = drawn(2, heads[1], 4, 7, seed=3), drawn(2, heads[1], 4, 7, seed=4)
    lengths = [4, 2]
    squares = []
    for row, length in enumerate(lengths):
        mine, theirs = (
            (q[row].double().numpy() @ k[row].double().numpy().transpose(0, 2, 1))[
                :, :length, :length
            ]
            / np.sqrt(q.shape[-1])
            for q, k in (student, teacher)
        )
        if heads[0] != heads[1]:
            mine, theirs = mine.mean(axis=0), theirs.mean(axis=0)
        squares.append((mine - theirs).reshape(-1, length * length) ** 2)
    expected = np.concatenate(squares, axis=1).mean()
    mask = (torch.arange(4)[None] < torch.tensor(lengths)[:, None]).long()
    assert attention_loss(student, teacher, mask).item() == pytest.approx(expected, rel=1e-5)


def test_hidden_loss_counts_real_tokens_alone() -> None:
    student, teacher = drawn(2, 3, 4, seed=1), drawn(2, 3, 4, seed=2)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    rows = mask.bool().numpy()
    expected = ((student - teacher).double().numpy()[rows] ** 2).mean()
    assert hidden_loss(student, teacher, mask).item() == pytest.approx(expected, rel=1e-5)


def relations(states: torch.Tensor, heads: int, length: int) -> Array:
    """Of one text's first ``length`` tokens, (heads, length, length)."""
    array = states.double().numpy()[:, :length].transpose(1, 0, 2).reshape(length, -1)
    parts = array.reshape(length, heads, -1).transpose(1, 0, 2)
    return softmax(parts @ parts.transpose(0, 2, 1) / np.sqrt(parts.shape[-1]))


@pytest.mark.parametrize(("student_shape", "heads"), [((3, 8), 12), ((2, 10), 4), ((6, 12), 12)])
def test_relation_loss_between_widths_and_head_counts(
    student_shape: tuple[int, int], heads: int
) -> None:
    lengths = [5, 2]
    mask = (torch.arange(5)[None] < torch.tensor(lengths)[:, None]).long()
    student = drawn(2, student_shape[0], 5, student_shape[1], seed=1)
    teacher = drawn(2, 12, 5, 4, seed=2)
    width = student_shape[0] * student_shape[1]
    common = max(h for h in range(1, heads + 1) if width % h == 0 and 48 % h == 0)
    total, rows = 0.0, 0
    for index, length in enumerate(lengths):
        p = relations(teacher[index], common, length)
        q = relations(student[index], common, length)
        total += (p * np.log(p / q)).sum()
        rows += common * length
    loss = relation_loss(student, teacher, mask, heads)
    assert loss.item() == pytest.approx(total / rows, rel=1e-4)


def test_relation_loss_has_finite_gradients_beside_padding() -> None:
    student = drawn(2, 2, 4, 6, seed=1).requires_grad_()
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
    relation_loss(student, drawn(2, 4, 4, 3, seed=2), mask).backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert student.grad[1, :, 1:].abs().max() == 0


def test_relation_heads_divide_both_widths() -> None:
    assert relation_heads(384, 384, 12) == 12
    assert relation_heads(160, 384, 12) == 8
    assert relation_heads(7, 384, 12) == 1
