import copy

import numpy as np
import pytest
import torch
from transformers import BertForSequenceClassification

from supernet.architecture import Architecture
from supernet.distill.stage import Replacement
from supernet.distill.theseus import assembled, check_replaceable, drawn
from supernet.errors import NasError
from supernet.model import Supernet
from supernet.observe import observe

HALF = Architecture.uniform(num_layers=1, hidden_size=32, num_heads=4, intermediate_size=64)


def test_probability_grows_to_one() -> None:
    assert [Replacement(0.5).at(step) for step in (0, 10_000)] == [0.5, 0.5]
    growing = Replacement(0.3, 6e-4)
    assert [growing.at(step) for step in (0, 500, 2_000)] == pytest.approx([0.3, 0.6, 1.0])


def test_each_module_is_replaced_by_itself() -> None:
    """Over 10,000 draws each module's rate lies within five binomial deviations, as do pairs'."""
    rng = np.random.default_rng(0)
    draws = np.array([drawn(3, 0.3, rng) for _ in range(10_000)])
    assert (abs(draws.mean(axis=0) - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 10_000)).all()
    both = (draws[:, 0] & draws[:, 1]).mean()
    assert abs(both - 0.09) < 5 * np.sqrt(0.09 * 0.91 / 10_000)


def test_no_replacement_is_the_predecessor_and_all_the_successor(
    bert: BertForSequenceClassification, inputs: dict[str, torch.Tensor]
) -> None:
    successor = Supernet.from_teacher(bert).extract(HALF)
    for parameter in successor.bert.encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    layers = bert.bert.encoder.layer, successor.bert.encoder.layer
    for replaced, model in ((False, bert), (True, successor)):
        run = observe(successor, inputs, layers=assembled(*layers, [replaced]))
        torch.testing.assert_close(run.logits, model(**inputs).logits, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(bert(**inputs).logits, successor(**inputs).logits, atol=1e-3)


def test_a_module_is_as_many_layers_as_there_are_more() -> None:
    six = [torch.nn.Identity() for _ in range(6)]
    two = [torch.nn.Identity() for _ in range(2)]
    assert assembled(six, two, [True, False]) == [two[0], *six[3:]]
    assert assembled(six, two, [False, True]) == [*six[:3], two[1]]


def test_layers_that_do_not_fit_are_refused(bert: BertForSequenceClassification) -> None:
    supernet = Supernet.from_teacher(bert)
    narrow = Architecture.uniform(num_layers=1, hidden_size=16, num_heads=2, intermediate_size=32)
    with pytest.raises(NasError, match="hidden size must be the teacher's 32, not 16"):
        check_replaceable(bert, supernet.extract(narrow))
    check_replaceable(bert, supernet.extract(HALF))
    deeper = copy.deepcopy(bert.config)
    deeper.num_hidden_layers = 3
    with pytest.raises(NasError, match=r"divide the teacher's 2 \(1, 2\), not 3"):
        check_replaceable(bert, BertForSequenceClassification(deeper))
