"""A model is the file's, or it is refused: renamed, absent, reshaped and foreign weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from supernet.errors import NasError
from supernet.loading import load_whole

Weights = dict[str, Tensor]
IDS = torch.tensor([[2, 5, 6, 3]])
SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


def bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(vocab_size=10, **SIZES)).eval()


def write(model: PreTrainedModel, folder: Path, weights: Weights | None = None) -> Path:
    """A folder with a model's configuration and other weights."""
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    own = model.state_dict() if weights is None else weights
    own = {name: tensor.clone().contiguous() for name, tensor in own.items()}
    save_file(own, folder / "model.safetensors", {"format": "pt"})
    return folder


def load(folder: Path, *, new_head: bool = False) -> PreTrainedModel:
    model: PreTrainedModel = load_whole(
        AutoModelForSequenceClassification, folder, "teacher", new_head=new_head
    )
    return model.eval()


def encoder(model: PreTrainedModel) -> Weights:
    base = f"{model.base_model_prefix}."
    return {k: v for k, v in model.state_dict().items() if k.startswith(base) and "pooler" not in k}


@pytest.mark.parametrize("wrapper", ["", "module.", "model.", "_orig_mod.module.", "a.b.c."])
def test_a_wrappers_prefix_is_taken_off(wrapper: str, tmp_path: Path) -> None:
    model = bert()
    renamed = {wrapper + name: tensor for name, tensor in model.state_dict().items()}
    loaded = load(write(model, tmp_path, renamed))
    assert torch.equal(loaded(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize("wrapper", ["", "module.", "encoder.", "0.auto_model.", "model.encoder."])
def test_an_encoder_without_a_head_is_found_behind_any_prefix(wrapper: str, tmp_path: Path) -> None:
    model = bert()
    renamed = {
        wrapper + name.removeprefix("bert."): tensor for name, tensor in encoder(model).items()
    }
    loaded = load(write(model, tmp_path, renamed), new_head=True)
    assert_equal(encoder(loaded), encoder(model))


@pytest.mark.parametrize("kind", ["distilbert", "roberta"])
def test_other_types_lose_their_wrappers_too(kind: str, tmp_path: Path) -> None:
    model: PreTrainedModel
    if kind == "roberta":
        model = RobertaForSequenceClassification(RobertaConfig(vocab_size=10, **SIZES))
    else:
        model = DistilBertForSequenceClassification(
            DistilBertConfig(vocab_size=10, dim=8, n_layers=2, n_heads=2, hidden_dim=16)
        )
    renamed = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    loaded = load(write(model, tmp_path, renamed))
    assert_equal(loaded.state_dict(), model.state_dict())


@pytest.mark.parametrize("new_head", [True, False])
@settings(max_examples=15)
@given(data=st.data())
def test_an_encoder_that_is_not_whole_is_refused(
    new_head: bool, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = bert()
    weights = dict(model.state_dict())
    name = data.draw(st.sampled_from(sorted(encoder(model))))
    tensor = weights.pop(name)
    match data.draw(st.sampled_from(["absent", "renamed", "longer", "shorter", "not finite"])):
        case "renamed":
            weights[name.replace("bert.", "bart.")] = tensor
        case "longer":
            weights[name] = torch.cat([tensor, tensor[:2]])
        case "shorter":
            weights[name] = tensor[:-1]
        case "not finite":
            weights[name] = tensor.clone()
            weights[name].view(-1)[0] = float("nan")
    folder = write(model, tmp_path_factory.mktemp("broken"), weights)
    with pytest.raises(NasError, match=name) as raised:
        load(folder, new_head=new_head)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("prefix", ["bart.", "module.bert.", "a\nb."])
def test_a_prefix_of_one_weight_alone_is_no_wrappers(prefix: str, tmp_path: Path) -> None:
    model = bert()
    weights = dict(model.state_dict())
    name = "embeddings.word_embeddings.weight"
    weights[prefix + name] = weights.pop(f"bert.{name}")
    with pytest.raises(NasError, match=rf"the file has no bert\.{name}, but") as refused:
        load(write(model, tmp_path, weights))
    assert str(refused.value).isprintable()


def test_more_layers_than_the_configuration_tells_are_refused(tmp_path: Path) -> None:
    model = bert()
    weights = model.state_dict()
    model.config.num_hidden_layers = 1
    with pytest.raises(NasError, match=r"has no bert\.encoder\.layer\.1\..* \(and 15 more\)"):
        load(write(model, tmp_path, weights), new_head=True)


def test_words_beyond_the_configurations_are_told(tmp_path: Path) -> None:
    model = bert()
    weights = model.state_dict()
    model.config.vocab_size = 8
    with pytest.raises(NasError, match=r"is of shape \(10, 8\) in the file, and \(8, 8\) by conf"):
        load(write(model, tmp_path, weights), new_head=True)


def test_an_adapter_is_to_be_merged(tmp_path: Path) -> None:
    model = bert()
    name = "bert.encoder.layer.0.attention.self.query"
    weights = dict(model.state_dict())
    weights[f"{name}.base_layer.weight"] = weights.pop(f"{name}.weight")
    weights[f"{name}.lora_A.default.weight"] = torch.zeros(2, 8)
    with pytest.raises(NasError, match="merge it first"):
        load(write(model, tmp_path, weights), new_head=True)


def test_a_head_may_be_absent_where_it_is_to_be_new(tmp_path: Path) -> None:
    model = bert()
    folder = write(model, tmp_path, encoder(model))
    assert_equal(encoder(load(folder, new_head=True)), encoder(model))
    with pytest.raises(NasError, match=r"the file has no bert\.pooler\.dense\.bias \(and 3 more\)"):
        load(folder)


def test_heads_of_other_tasks_are_of_no_use(tmp_path: Path) -> None:
    model = BertForMaskedLM(BertConfig(vocab_size=10, **SIZES))
    loaded = load(write(model, tmp_path, dict(model.state_dict())), new_head=True)
    assert_equal(encoder(loaded), encoder(model))


def assert_equal(some: Weights, others: Weights) -> None:
    assert some.keys() == others.keys()
    for name, tensor in some.items():
        assert torch.equal(tensor, others[name]), name


class Failing:
    """A class of models that always fails to load."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def from_pretrained(self, place: object, **options: object) -> None:
        raise self._error


def test_a_model_that_does_not_load_is_one_line_but_a_lack_of_memory_is_not_the_models() -> None:
    with pytest.raises(NasError, match="the teacher does not load: torn file"):
        load_whole(Failing(RuntimeError("torn file")), "here", "the teacher")
    with pytest.raises(MemoryError):
        load_whole(Failing(MemoryError()), "here", "the teacher")
