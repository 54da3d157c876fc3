from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from supernet.architecture import Architecture
from supernet.distill.masked_words import WordHead
from supernet.errors import NasError
from supernet.model import Supernet
from supernet.modeling_tailorbert import TailorBertForSequenceClassification
from supernet.observe import observe
from tests.supernet.conftest import tiny_space

Inputs = dict[str, torch.Tensor]
drawn_architectures = st.builds(
    lambda seed, uniform: tiny_space(uniform).sample(np.random.default_rng(seed)),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
same_supernet = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@torch.no_grad()
def test_largest_equals_stock_transformers(
    bert: BertForSequenceClassification, supernet: Supernet, inputs: Inputs
) -> None:
    stock = bert(**inputs, output_hidden_states=True)
    ours = supernet(**inputs)
    torch.testing.assert_close(ours.logits, stock.logits, atol=1e-5, rtol=0)
    real = inputs["attention_mask"].bool()
    for mine, theirs in zip(ours.hidden_states, stock.hidden_states, strict=True):
        torch.testing.assert_close(mine[real], theirs[real], atol=1e-5, rtol=0)


@same_supernet
@given(architecture=drawn_architectures)
@torch.no_grad()
def test_slice_equals_extracted_student(
    supernet: Supernet, inputs: Inputs, architecture: Architecture
) -> None:
    student = supernet.extract(architecture)
    in_place = supernet(**inputs, architecture=architecture)
    alone = student(**inputs, output_hidden_states=True)
    torch.testing.assert_close(in_place.logits, alone.logits, atol=1e-5, rtol=0)
    assert len(in_place.hidden_states) == len(alone.hidden_states)
    assert isinstance(student, BertForSequenceClassification) == architecture.is_native
    assert student.num_parameters() == architecture.parameters(supernet.shape)


@torch.no_grad()
def test_padding_changes_nothing(supernet: Supernet, space: object) -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    padded = torch.cat([ids, torch.zeros(1, 5, dtype=torch.long)], dim=1)
    mask = (padded > 0).long()
    architecture = tiny_space(True).sample(np.random.default_rng(3))
    short = supernet(ids, architecture=architecture).logits
    long = supernet(padded, mask, architecture=architecture).logits
    torch.testing.assert_close(short, long, atol=1e-5, rtol=0)


def test_two_sub_networks_at_once_accumulate_their_gradients(
    supernet: Supernet, inputs: Inputs
) -> None:
    """No state between calls: gradients of interleaved passes are the sum of separate ones."""
    space = tiny_space(False)
    rng = np.random.default_rng(0)
    first, second = space.sample(rng), space.sample(rng)

    def gradients(*architectures: Architecture) -> list[torch.Tensor]:
        supernet.zero_grad()
        outputs = [supernet(**inputs, architecture=a).logits.square().sum() for a in architectures]
        torch.stack(outputs).sum().backward()
        return [
            torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in supernet.parameters()
        ]

    apart = zip(gradients(first), gradients(second), strict=True)
    for both, (one, other) in zip(gradients(first, second), apart, strict=True):
        torch.testing.assert_close(both, one + other, atol=1e-4, rtol=1e-4)


def test_gradients_stay_within_the_slice(supernet: Supernet, inputs: Inputs) -> None:
    architecture = tiny_space(True).smallest
    supernet(**inputs, architecture=architecture).logits.sum().backward()
    table = supernet.weights.bert.embeddings.word_embeddings.weight.grad
    assert table is not None
    assert table[:, architecture.hidden_size :].abs().max() == 0
    assert table[:, : architecture.hidden_size].abs().max() > 0
    first, last = supernet.weights.bert.encoder.layer
    assert first.output.dense.weight.grad is None
    assert last.output.dense.weight.grad is not None


def test_an_architecture_that_does_not_fit_is_refused(supernet: Supernet, inputs: Inputs) -> None:
    wide = Architecture.uniform(num_layers=1, hidden_size=64, num_heads=1, intermediate_size=8)
    with pytest.raises(NasError, match="does not fit in the supernet's 2x32"):
        supernet(**inputs, architecture=wide)
    with pytest.raises(NasError, match="does not fit"):
        supernet.extract(wide)


@torch.no_grad()
@pytest.mark.parametrize("uniform", [True, False])
def test_saved_students_load_anywhere(
    supernet: Supernet, inputs: Inputs, uniform: bool, tmp_path: object
) -> None:
    architecture = tiny_space(uniform).sample(np.random.default_rng(5))
    student = supernet.extract(architecture)
    student.save_pretrained(tmp_path)
    again = type(student).from_pretrained(tmp_path).eval()
    assert torch.equal(student(**inputs).logits, again(**inputs).logits)
    named = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert type(named) is type(student)
    if isinstance(student, TailorBertForSequenceClassification):
        assert (tmp_path / "modeling_tailorbert.py").is_file()  # type: ignore[operator]


@torch.no_grad()
@pytest.mark.parametrize("uniform", [True, False])
def test_a_large_epsilon_reaches_every_normalization(
    bert: BertForSequenceClassification, inputs: Inputs, uniform: bool, tmp_path: Path
) -> None:
    """At BERT's own 1e-12 nothing would show where it is left out."""
    bert.config.layer_norm_eps = 0.5
    bert.save_pretrained(tmp_path / "teacher")
    teacher = BertForSequenceClassification.from_pretrained(tmp_path / "teacher").eval()
    expected = teacher(**inputs).logits
    assert (expected - bert(**inputs).logits).abs().max() > 0.01
    supernet = Supernet.from_teacher(teacher).eval()
    torch.testing.assert_close(supernet(**inputs).logits, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(observe(teacher, inputs).logits, expected, atol=1e-5, rtol=0)
    architecture = tiny_space(uniform).sample(np.random.default_rng(5))
    student = supernet.extract(architecture)
    in_place = supernet(**inputs, architecture=architecture).logits
    torch.testing.assert_close(student(**inputs).logits, in_place, atol=1e-5, rtol=0)
    torch.testing.assert_close(observe(student, inputs).logits, in_place, atol=1e-5, rtol=0)
    student.save_pretrained(tmp_path / "student")
    again = type(student).from_pretrained(tmp_path / "student").eval()
    torch.testing.assert_close(again(**inputs).logits, in_place, atol=1e-5, rtol=0)
    norms = [one for one in again.modules() if isinstance(one, torch.nn.LayerNorm)]
    assert {one.eps for one in (*norms, WordHead.of(again).LayerNorm)} == {0.5}


@torch.no_grad()
def test_supernet_round_trip(supernet: Supernet, inputs: Inputs, tmp_path: object) -> None:
    supernet.save_pretrained(tmp_path)  # type: ignore[arg-type]
    again = Supernet.from_pretrained(tmp_path).eval()  # type: ignore[arg-type]
    assert torch.equal(supernet(**inputs).logits, again(**inputs).logits)
