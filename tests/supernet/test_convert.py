import pytest
import torch
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    GPT2Config,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from supernet.convert import as_bert, check_convertible
from supernet.errors import NasError

SIZES = {
    "vocab_size": 90,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "initializer_range": 0.3,
    "num_labels": 3,
}


def models() -> list[PreTrainedModel]:
    torch.manual_seed(0)
    return [
        RobertaForSequenceClassification(
            RobertaConfig(**SIZES, max_position_embeddings=22, type_vocab_size=1)
        ),
        ElectraForSequenceClassification(
            ElectraConfig(**SIZES, embedding_size=24, max_position_embeddings=20)
        ),
        DistilBertForSequenceClassification(
            DistilBertConfig(
                vocab_size=90,
                dim=24,
                n_layers=2,
                n_heads=3,
                hidden_dim=40,
                num_labels=3,
                max_position_embeddings=20,
                initializer_range=0.3,
            )
        ),
    ]


@pytest.mark.parametrize("model", models(), ids=lambda model: model.config.model_type)
@torch.no_grad()
def test_conversion_computes_the_same(model: PreTrainedModel) -> None:
    mask = (torch.arange(8)[None] < torch.tensor([8, 5])[:, None]).long()
    ids = torch.randint(5, 90, (2, 8)) * mask + model.config.pad_token_id * (1 - mask)
    bert = as_bert(model.eval())
    theirs = model.base_model(ids, mask).last_hidden_state
    ours = bert.bert(ids, mask).last_hidden_state
    real = mask.bool()
    torch.testing.assert_close(ours[real], theirs[real], atol=1e-5, rtol=0)
    if model.config.model_type == "roberta":
        torch.testing.assert_close(
            bert(ids, mask).logits, model(ids, mask).logits, atol=1e-5, rtol=0
        )


def test_what_bert_cannot_hold_is_refused() -> None:
    with pytest.raises(NasError, match="'gpt2' is not BERT-like; accepted are bert, roberta"):
        check_convertible(GPT2Config())
    with pytest.raises(NasError, match="embedding_size 16"):
        check_convertible(ElectraConfig(**SIZES, embedding_size=16))
    with pytest.raises(NasError, match="no pad_token_id"):
        check_convertible(RobertaConfig(**SIZES, pad_token_id=None))
