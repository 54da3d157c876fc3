import numpy as np
import torch
from transformers import BertConfig, BertForMaskedLM

from supernet.distill.masked_words import Masking, WordHead

MASKING = Masking(mask_id=4, special=torch.arange(1_000) < 5)


def test_tokens_are_hidden_as_in_bert() -> None:
    """15% are predicted; of these 80% hidden, 10% random, 10% kept, within five deviations."""
    ids = torch.randint(5, 1_000, (100, 200), generator=torch.Generator().manual_seed(0))
    hidden, predicted = MASKING.apply(ids, np.random.default_rng(0))
    count = int(predicted.sum())
    assert abs(predicted.float().mean().item() - 0.15) < 5 * np.sqrt(0.15 * 0.85 / 20_000)
    assert torch.equal(hidden[~predicted], ids[~predicted])
    masked = (hidden[predicted] == 4).float().mean().item()
    kept = (hidden[predicted] == ids[predicted]).float().mean().item()
    assert abs(masked - 0.8) < 5 * np.sqrt(0.8 * 0.2 / count)
    assert abs(kept - 0.1) < 5 * np.sqrt(0.1 * 0.9 / count)


def test_special_tokens_are_never_predicted() -> None:
    ids = torch.tensor([[2, 3, 0, 1, 4] * 100])
    hidden, predicted = MASKING.apply(ids, np.random.default_rng(0))
    assert not predicted.any()
    assert torch.equal(hidden, ids)


def test_the_head_is_stock_berts() -> None:
    config = BertConfig(
        vocab_size=60,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    stock = BertForMaskedLM(config).eval()
    head = WordHead(8, 60, config.hidden_act, config.layer_norm_eps)
    transform = stock.cls.predictions.transform
    head.dense.load_state_dict(transform.dense.state_dict())
    head.LayerNorm.load_state_dict(transform.LayerNorm.state_dict())
    torch.nn.init.normal_(stock.cls.predictions.bias)
    head.load_state_dict(head.state_dict() | {"bias": stock.cls.predictions.bias.detach()})
    ids = torch.randint(5, 60, (3, 7))
    states = stock.bert(ids).last_hidden_state
    expected = stock(ids).logits
    found = head(states, stock.bert.embeddings.word_embeddings.weight)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
