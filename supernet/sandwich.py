"""Sandwich-rule training of a supernet (Yu and Huang 2019; BigNAS, Yu et al. 2020).

Each step runs the largest, the smallest and some random sub-networks on one batch and sums their
gradients. They learn from the teacher, from the predictions of the largest sub-network (in-place
distillation), or from both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import Dataset

from supernet.architecture import Architecture, layer_map
from supernet.distill.losses import hard_loss, hidden_loss, relation_loss, soft_loss
from supernet.model import Supernet
from supernet.observe import Observation
from supernet.sandwich_settings import SandwichSettings
from supernet.space import SearchSpace
from supernet.training import Progress, ResumableTrainer


def sandwich(space: SearchSpace, num_random: int, rng: np.random.Generator) -> list[Architecture]:
    """The sub-networks of one step: the largest, the smallest, and random ones."""
    return [space.largest, space.smallest, *(space.sample(rng) for _ in range(num_random))]


def sub_network_loss(
    output: Observation,
    soft_targets: tuple[Tensor, ...],
    teacher: Observation,
    mask: Tensor,
    labels: Tensor | None,
    settings: SandwichSettings,
) -> Tensor:
    """The weighted losses of one sub-network on one batch.

    Args:
        soft_targets: logits to imitate, each (batch, num_labels); their losses are averaged.
        mask: (batch, tokens)
        labels: (batch,), or None on unlabelled text.
    """
    loss = output.logits.new_zeros(())
    if settings.soft_weight:
        soft = [soft_loss(output.logits, target, settings.temperature) for target in soft_targets]
        loss = loss + settings.soft_weight * torch.stack(soft).mean()
    if settings.hard_weight and labels is not None:
        loss = loss + settings.hard_weight * hard_loss(output.logits, labels)
    if settings.hidden_weight:
        mapped = layer_map(len(output.hidden_states) - 1, len(teacher.hidden_states) - 1)
        width = output.hidden_states[0].shape[-1]
        states = [
            hidden_loss(mine, teacher.hidden_states[number][..., :width], mask)
            for mine, number in zip(output.hidden_states, mapped, strict=True)
        ]
        loss = loss + settings.hidden_weight * torch.stack(states).mean()
    if settings.relation_weight:
        pairs = zip(output.attentions[-1], teacher.attentions[-1], strict=True)
        relations = [relation_loss(mine, theirs, mask) for mine, theirs in pairs]
        loss = loss + settings.relation_weight * torch.stack(relations).mean()
    return loss


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their means over all processes, in one message.

    Every process must have gradients for the same parameters. In a sandwich it does: the largest
    sub-network uses all of them.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    means = flat.split([gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))


class SandwichTrainer(ResumableTrainer):
    """Trains a supernet by the sandwich rule.

    Each process runs the largest, the smallest and its own random sub-networks on its share of the
    batch. Gradients are averaged over the processes.

    Args:
        supernet: learns, in place.
        teacher: a supernet whose largest sub-network is the teacher; its units have the order of
            the supernet's. It is frozen.
        space: the sub-networks to train; its largest fits in the supernet.
        data, collate, folder, seed, progress, checkpoint_every: as in :class:`ResumableTrainer`.
    """

    def __init__(
        self,
        supernet: Supernet,
        teacher: Supernet,
        space: SearchSpace,
        data: Dataset[Any],
        collate: Callable[[list[Any]], dict[str, Tensor]],
        settings: SandwichSettings,
        folder: Path,
        *,
        seed: int,
        progress: Progress | None = None,
        checkpoint_every: float = 60.0,
    ) -> None:
        super().__init__(
            supernet,
            data,
            collate,
            settings.training,
            folder,
            seed=seed,
            progress=progress,
            checkpoint_every=checkpoint_every,
        )
        self.teacher = teacher.eval().requires_grad_(False).to(self.args.device)
        self.space = space
        self.sandwich_settings = settings

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        # DDP would send gradients after each sub-network, and would have to know which weights a
        # sub-network does not use. Send the sum over the sub-networks once instead.
        with self.accelerator.no_sync(model):
            loss = self._sub_networks_step(model, inputs)
        if self.accelerator.num_processes > 1:
            average_gradients(model.parameters())
        return loss

    def _sub_networks_step(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """Add up the gradients of this process's sub-networks.

        Returns:
            The mean loss of the sub-networks, ().
        """
        model.train()
        inputs = self._prepare_inputs(inputs)
        labels = inputs.pop("labels", None)
        settings = self.sandwich_settings
        mask = inputs["attention_mask"]
        with torch.no_grad(), self.accelerator.autocast():
            teacher = self.teacher(**inputs)
        architectures = sandwich(self.space, settings.num_random, self.step_rng())
        total = teacher.logits.new_zeros(())
        targets = (teacher.logits,)
        for architecture in architectures:
            output = model(**inputs, architecture=architecture)
            loss = sub_network_loss(output, targets, teacher, mask, labels, settings)
            self.accelerator.backward(loss)
            total += loss.detach()
            if architecture is architectures[0]:
                own = output.logits.detach()
                targets = {
                    "teacher": (teacher.logits,),
                    "largest": (own,),
                    "both": (teacher.logits, own),
                }[settings.soft_targets]
        return total / len(architectures)
