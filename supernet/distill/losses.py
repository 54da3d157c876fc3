"""Distillation losses: small functions of what a student and its teacher computed."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence of softened predictions, or squared error for a regression.

    ``T^2 KL(softmax(z_T / T) || softmax(z_S / T))`` (Hinton et al. 2015); mean over the batch.

    Args:
        student, teacher: logits (batch, num_labels); a single label means regression.
    """
    if student.shape[-1] == 1:
        return F.mse_loss(student, teacher)
    divergence = F.kl_div(
        F.log_softmax(student / temperature, dim=-1),
        F.log_softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


def hard_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with the labels, or squared error if there is one output.

    Args:
        labels: class indices or values, (batch,). A negative index or NaN means no label, and the
            example does not count.
    """
    return mean_of_known(hard_losses(logits, labels))


def hard_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The :func:`hard_loss` of each example, (batch,); NaN where there is no label."""
    if logits.shape[-1] == 1:
        known = ~labels.isnan()
        losses = (logits.squeeze(-1) - labels.nan_to_num().to(logits.dtype)) ** 2
    else:
        known = labels >= 0
        losses = F.cross_entropy(logits, labels.clamp(min=0), reduction="none")
    return losses.masked_fill(~known, math.nan)  # masked last, so that no gradient is NaN


def mean_of_known(losses: Tensor) -> Tensor:
    """The mean of the losses that are not NaN; 0 if all are."""
    known = losses[~losses.isnan()]
    return known.mean() if len(known) else losses.new_zeros(())


def hidden_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared error of hidden states, mean over real tokens and units (TinyBERT, eq. 8).

    Args:
        student, teacher: (batch, tokens, hidden), of one width
        mask: (batch, tokens), 1 at real tokens
    """
    real = mask.bool()
    return F.mse_loss(student[real], teacher[real])


def attention_loss(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], mask: Tensor
) -> Tensor:
    """Squared error of attention scores before softmax (TinyBERT, eq. 7), mean over real pairs.

    In the paper, students have as many heads as their teacher. If the numbers differ here, the
    means over heads are compared.

    Args:
        student, teacher: queries and keys, each (batch, heads, tokens, head_size)
        mask: (batch, tokens), 1 at real tokens
    """
    mine, theirs = _scores(*student), _scores(*teacher)
    if mine.shape[1] != theirs.shape[1]:
        mine, theirs = mine.mean(dim=1, keepdim=True), theirs.mean(dim=1, keepdim=True)
    real = mask.bool()
    pairs = real[:, :, None] & real[:, None, :]  # (batch, tokens, tokens)
    squared = (mine - theirs).square().mean(dim=1)
    return squared[pairs].mean()


def relation_loss(student: Tensor, teacher: Tensor, mask: Tensor, max_heads: int = 12) -> Tensor:
    """KL divergence of self-attention relations (MiniLM v2, Wang et al. 2021, eqs. 3 to 5).

    Widths and head counts may differ. Both are split into the same number of relation heads: the
    largest up to ``max_heads`` that divides both widths.

    Args:
        student, teacher: queries, keys or values, (batch, heads, tokens, head_size)
        mask: (batch, tokens), 1 at real tokens

    Returns:
        The mean over relation heads and real positions.
    """
    heads = relation_heads(_width(student), _width(teacher), max_heads)
    real = mask.bool()
    log_student = _log_relations(student, real, heads)
    log_teacher = _log_relations(teacher, real, heads)
    # Padded columns are -inf in both: their probability is 0, and so must be their term.
    terms = log_teacher.exp() * (log_teacher - log_student).masked_fill(~real[:, None, None], 0.0)
    divergence = terms.sum(dim=-1)  # (batch, relation heads, tokens)
    return divergence.transpose(1, 2)[real].mean()


def relation_heads(student_width: int, teacher_width: int, max_heads: int) -> int:
    """The largest number up to ``max_heads`` that divides both widths."""
    common = math.gcd(student_width, teacher_width)
    return max(heads for heads in range(1, max_heads + 1) if common % heads == 0)


def _scores(query: Tensor, key: Tensor) -> Tensor:
    """Attention scores before softmax, (batch, heads, tokens, tokens)."""
    return query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])


def _width(states: Tensor) -> int:
    return states.shape[1] * states.shape[3]


def _log_relations(states: Tensor, real: Tensor, heads: int) -> Tensor:
    """Log-probabilities, -inf at padded columns, (batch, heads, tokens, tokens)."""
    joined = states.transpose(1, 2).flatten(-2)  # (batch, tokens, width)
    split = joined.unflatten(-1, (heads, -1)).transpose(1, 2)
    scores = split @ split.transpose(-1, -2) / math.sqrt(split.shape[-1])
    return torch.log_softmax(scores.masked_fill(~real[:, None, None], -math.inf), dim=-1)
