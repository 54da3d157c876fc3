"""Folders of others: what models they hold, or what they hold instead."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from nas.models.measured import load_model, model_folder
from nas.models.model_folders import without_model
from supernet.errors import NasError


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        ([], "the folder holds no config.json"),
        (["adapter_config.json"], "merge_and_unload"),
        (["checkpoint-90/config.json", "checkpoint-500/config.json"], "checkpoint-500"),
        (["modules.json", "0_Transformer/config.json"], "0_Transformer"),
        (["report.html", "model/config.json"], "model"),
    ],
)
def test_what_a_folder_holds_instead(files: list[str], advice: str, tmp_path: Path) -> None:
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    told = without_model(tmp_path)
    assert advice in told
    assert "\n" not in told


def test_a_command_for_finished_models_passes_it_on(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(NasError, match="holds no model: it holds an adapter"):
        model_folder(tmp_path)


def saved(model: PreTrainedModel, folder: Path) -> None:
    model.save_pretrained(folder)
    words = ["<s>", "[PAD]", "</s>", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
    vocabulary = {word: row for row, word in enumerate(words)}
    BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)


def test_a_roberta_classifier_is_read_as_bert(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=20, num_labels=3,
    )  # fmt: skip
    model = RobertaForSequenceClassification(config).eval()
    saved(model, tmp_path)
    loaded, _ = load_model(tmp_path)
    ids = torch.tensor([[4, 7, 7, 5], [4, 7, 5, 7]])
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits)


def test_a_classifier_whose_head_is_another_is_named(tmp_path: Path) -> None:
    config = DistilBertConfig(vocab_size=8, dim=8, n_layers=1, n_heads=2, hidden_dim=16)
    saved(DistilBertForSequenceClassification(config), tmp_path)
    with pytest.raises(NasError, match="is of type 'distilbert'; classifiers are read of types"):
        load_model(tmp_path)
