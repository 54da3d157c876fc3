"""Scores come from where the model is, and do not depend on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from nas.data.task_data import Examples
from nas.data.tokenization import EncodedExamples, encode
from nas.models.evaluate import accelerator, collator, predict, score
from nas.models.export import export, onnx_difference
from supernet.architecture import Architecture
from supernet.distill.stage import DistillStage, Losses
from supernet.distill.trainer import DistillTrainer, Learner
from supernet.model import Supernet
from supernet.sandwich import SandwichTrainer
from supernet.sandwich_settings import SandwichSettings
from supernet.space import SearchSpace
from supernet.training_settings import TrainingSettings

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrst", "##s"]
SPACE = SearchSpace("two", (1, 2), (16, 32), (2,), (16, 32), (32, 64), head_size=(8, 16))


@pytest.fixture
def tokenizer(tmp_path: Path) -> BertTokenizerFast:
    return BertTokenizerFast(vocab={word: row for row, word in enumerate(WORDS)})


@pytest.fixture
def bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
        num_labels=2,
        initializer_range=0.3,
    )
    return BertForSequenceClassification(config).eval()


@pytest.fixture
def examples(tokenizer: BertTokenizerFast) -> EncodedExamples:
    rng = np.random.default_rng(0)
    texts = tuple(" ".join(rng.choice(WORDS[5:-1], size=rng.integers(1, 9))) for _ in range(40))
    labels = np.array([int("a" in text) for text in texts])
    return encode(Examples(texts, labels=labels), tokenizer, 16)


def test_predictions_stand_in_the_order_of_the_examples(
    bert: BertForSequenceClassification, examples: EncodedExamples, tokenizer: BertTokenizerFast
) -> None:
    collate = collator(tokenizer)
    together = predict(
        lambda batch: bert(**batch).logits, examples, collate, bert.device, batch_size=7
    )
    for row in range(len(examples)):
        batch = collate([examples[row]])
        batch.pop("labels")
        with torch.no_grad():
            alone = bert(**batch).logits[0].numpy()
        np.testing.assert_allclose(together[row], alone, atol=1e-5)


@pytest.mark.parametrize("device", ["any", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_what_training_leaves_on_its_device_is_scored_and_exported(
    device: str,
    bert: BertForSequenceClassification,
    examples: EncodedExamples,
    tokenizer: BertTokenizerFast,
    tmp_path: Path,
) -> None:
    collate = collator(tokenizer)
    teacher, supernet = Supernet.from_teacher(bert), Supernet.from_teacher(bert)
    short = TrainingSettings(epochs=1, learning_rate=1e-4, batch_size=8)
    SandwichTrainer(
        supernet, teacher, SPACE, examples, collate, SandwichSettings(training=short),
        tmp_path / "sandwich", seed=0,
    ).run()  # fmt: skip
    small = Architecture.uniform(
        num_layers=1, hidden_size=16, num_heads=2, qkv_size=16, intermediate_size=32
    )
    student = supernet.extract(small)
    stage = DistillStage(
        name="distil", training=short, losses=Losses(hard=0.3, soft=1.0, hidden=1.0)
    )
    DistillTrainer(
        Learner(student, bert.config.hidden_size), bert, examples, collate, stage,
        tmp_path / "distill", seed=0,
    ).run()  # fmt: skip
    student.eval()
    assert student.device.type == (accelerator().type if device == "any" else device)

    sample = collate([examples[0], examples[1]])
    sample.pop("labels")
    export(student, tokenizer, tmp_path, sample=sample)
    assert onnx_difference(student, tmp_path / "model.onnx", sample) < 1e-4
    there = score(
        lambda batch: student(**batch).logits, examples, collate, student.device, "accuracy"
    )
    there_logits = predict(lambda batch: student(**batch).logits, examples, collate, student.device)
    student.cpu()
    here_logits = predict(
        lambda batch: student(**batch).logits, examples, collate, torch.device("cpu")
    )
    np.testing.assert_allclose(there_logits, here_logits, atol=1e-4)
    assert 0 <= there <= 1
