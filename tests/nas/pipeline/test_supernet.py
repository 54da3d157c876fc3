"""The stage that trains a supernet."""

from __future__ import annotations

from pathlib import Path

import torch

from nas.pipeline.supernet import trained_supernet_stage
from nas.store.result_folder import MODEL
from supernet.model import Supernet
from supernet.space import SearchSpace, trimmed
from tests.nas.learnt import ground_in
from tests.nas.pipeline.small_search import SPACE

SETTINGS = {
    "training": {"epochs": 1, "batch_size": 32, "learning_rate": 1e-3},
    "num_random": 1,
    "hidden_weight": 1.0,
}


def test_it_learns_though_the_teacher_was_frozen_before(tmp_path: Path) -> None:
    """Distillation freezes the teacher; whether one ran before in this process must not matter."""
    ground = ground_in(tmp_path, supernet=SETTINGS, scores="inherited")
    space = trimmed(SearchSpace.from_dict(SPACE), ground.original.architecture)
    shared = ground.lesson, space, ground.teacher, ground.task, ground.guide
    ground.guide.supernet.requires_grad_(False)
    made = ground.bench.make(trained_supernet_stage(*shared))
    learnt = Supernet.from_pretrained(made.path / MODEL).state_dict()
    before = ground.guide.supernet.state_dict()
    for name in ("weights.classifier.weight", "weights.bert.pooler.dense.weight"):
        assert not torch.equal(learnt[name], before[name])
