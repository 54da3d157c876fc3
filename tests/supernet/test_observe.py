"""What is observed is what the models themselves compute."""

import math

import pytest
import torch
from transformers import BertForSequenceClassification

from supernet.architecture import Architecture, Layer
from supernet.model import Supernet
from supernet.observe import observe, word_embeddings

UNEVEN = Architecture(16, (Layer(2, 8, 24), Layer(1, 4, 16)))
NATIVE = Architecture.uniform(num_layers=1, hidden_size=16, num_heads=2, intermediate_size=32)


@pytest.mark.parametrize("architecture", [None, NATIVE, UNEVEN])
def test_logits_and_states_are_the_models_own(
    bert: BertForSequenceClassification,
    inputs: dict[str, torch.Tensor],
    architecture: Architecture | None,
) -> None:
    model = bert if architecture is None else Supernet.from_teacher(bert).extract(architecture)
    own = model(**inputs, output_hidden_states=True)
    seen = observe(model, inputs)
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(seen.logits, own.logits, atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(seen.hidden_states, own.hidden_states, strict=True):
        torch.testing.assert_close(mine[real], theirs[real], atol=1e-5, rtol=1e-5)


def test_attention_is_stock_berts(
    bert: BertForSequenceClassification, inputs: dict[str, torch.Tensor]
) -> None:
    bert.set_attn_implementation("eager")
    probabilities = bert(**inputs, output_attentions=True).attentions
    mask = inputs["attention_mask"][:, None, None].bool()
    real = inputs["attention_mask"].bool()
    for (query, key, _), expected in zip(
        observe(bert, inputs).attentions, probabilities, strict=True
    ):
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        found = scores.masked_fill(~mask, -math.inf).softmax(dim=-1)
        torch.testing.assert_close(
            found.transpose(1, 2)[real], expected.transpose(1, 2)[real], atol=1e-5, rtol=1e-5
        )


def test_a_supernets_sub_network_is_observed_as_its_extracted_student(
    bert: BertForSequenceClassification, inputs: dict[str, torch.Tensor]
) -> None:
    supernet = Supernet.from_teacher(bert)
    inside = supernet(**inputs, architecture=UNEVEN)
    outside = observe(supernet.extract(UNEVEN), inputs)
    torch.testing.assert_close(inside.logits, outside.logits, atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(inside.attentions, outside.attentions, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_other_words_and_layers_take_the_place_of_its_own(
    bert: BertForSequenceClassification, inputs: dict[str, torch.Tensor]
) -> None:
    other = inputs["input_ids"].flip(0)
    seen = observe(bert, inputs, words=word_embeddings(bert, other))
    expected = bert(**(inputs | {"input_ids": other}))
    torch.testing.assert_close(seen.logits, expected.logits, atol=1e-5, rtol=1e-5)

    layers = [bert.bert.encoder.layer[1]]
    bert.bert.encoder.layer = torch.nn.ModuleList(layers)
    torch.testing.assert_close(
        observe(bert, inputs, layers=layers).logits, bert(**inputs).logits, atol=1e-5, rtol=1e-5
    )


def test_dropout_is_at_work_in_training(
    bert: BertForSequenceClassification, inputs: dict[str, torch.Tensor]
) -> None:
    bert.train()
    torch.manual_seed(0)
    first = observe(bert, inputs).logits
    assert not torch.allclose(first, observe(bert, inputs).logits)
    torch.manual_seed(0)
    assert torch.equal(first, observe(bert, inputs).logits)
