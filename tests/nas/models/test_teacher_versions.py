"""Teachers of other versions of transformers: the same function, or one line that says why not.

What a folder holds is changed at random, its names of weights, its weights and its configuration.
The reference is stock ``transformers``, given the unchanged weights one by one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertTokenizerFast,
    DistilBertConfig,
    ElectraConfig,
    PretrainedConfig,
    RobertaConfig,
)

from nas.models.outline import inspect_teacher
from nas.models.teacher import load_teacher
from nas.tasks.classification import CLASSIFICATION
from nas.tasks.task import Task
from supernet.errors import NasError

Weights = dict[str, Tensor]
Json = dict[str, Any]

LABELS = ("a", "b", "c")
TASK = Task("letters", CLASSIFICATION, LABELS, "accuracy")
IDS = torch.tensor([[2, 5, 6, 3, 7], [2, 6, 3, 8, 4]])
SIZES = {
    "vocab_size": 12,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 20,
    "id2label": dict(enumerate(LABELS)),
}
DISTILLED = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
}
CONFIGS: Mapping[str, Callable[[], PretrainedConfig]] = {
    "bert": lambda: BertConfig(**SIZES),
    "roberta": lambda: RobertaConfig(**SIZES, type_vocab_size=1),
    "distilbert": lambda: DistilBertConfig(
        **{DISTILLED.get(name, name): size for name, size in SIZES.items()}
    ),
    "electra": lambda: ElectraConfig(**SIZES, embedding_size=8),
}
KINDS = st.sampled_from(sorted(CONFIGS))


class Folder(NamedTuple):
    """What a teacher's folder holds."""

    config: Json
    weights: Weights


def made(kind: str) -> Folder:
    config = CONFIGS[kind]()
    model = AutoModelForSequenceClassification.from_config(config)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: 0.3 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point()
    }
    config.architectures = [type(model).__name__]
    return Folder(json.loads(config.to_json_string()), weights)


ORIGINALS = {kind: made(kind) for kind in CONFIGS}


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Folder], Path]:
    """Writes a folder, its tokenizer besides, in the place of the one before."""
    place = tmp_path_factory.mktemp("teachers") / "other"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    tokenizer = BertTokenizerFast(vocab={word: row for row, word in enumerate(words)})
    tokenizer.save_pretrained(place)

    def written(folder: Folder) -> Path:
        (place / "config.json").write_text(json.dumps(folder.config))
        weights = {name: one.clone().contiguous() for name, one in folder.weights.items()}
        save_file(weights, place / "model.safetensors", {"format": "pt"})
        return place

    return written


class Computed(NamedTuple):
    """Of both texts: what the encoder puts out, and what the head does."""

    encoded: Tensor
    logits: Tensor


@torch.no_grad()
def stock(config: PretrainedConfig, weights: Weights) -> Computed:
    """What ``transformers`` computes, with each of the weights and no others."""
    config.return_dict, config.dtype, config.initializer_range = True, torch.float32, 0.02
    config._attn_implementation = "eager"
    model = AutoModelForSequenceClassification.from_config(config).eval()
    model.load_state_dict(weights, strict=True)
    return Computed(model.base_model(IDS)[0], model(IDS).logits)


REFERENCES = {kind: stock(CONFIGS[kind](), folder.weights) for kind, folder in ORIGINALS.items()}


@torch.no_grad()
def loaded(place: Path) -> tuple[Computed, bool]:
    """What a teacher computes, and whether with a head of its own."""
    teacher = load_teacher(str(place), TASK, seed=0)
    model = teacher.model
    return Computed(model.bert(IDS).last_hidden_state, model(IDS).logits), teacher.has_head


def assert_equal(found: Computed, expected: Computed, has_head: bool) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
        if not has_head:
            break  # what the new one puts out is chance


def assert_one_line(error: NasError) -> None:
    assert str(error).isprintable(), repr(str(error))
    assert str(error).startswith("teacher")
    assert len(str(error)) < 700


# ---- what other versions wrote, which is the same model ------------------------------------------

VERSIONS = ("2.11.0", "3.5.1", "4.0.0-rc-1", "4.57.1", "5.23.0", "5.0.0.dev0", None)
FURTHER: Json = {
    "pruned_heads": {}, "use_cache": True, "finetuning_task": "sst-2", "directionality": "bidi",
    "gradient_checkpointing": False, "output_past": True, "pooler_fc_size": 768, "num_beams": 1,
    "_name_or_path": "/home/ada/bert", "model_parallel": False, "do_sample": False,
    "bos_token_id": 0, "is_encoder_decoder": False,
}  # fmt: skip
"""Keys that matter for nothing here, as versions wrote them."""

SAME: Mapping[str, st.SearchStrategy[Json]] = {
    "version": st.sampled_from([{"transformers_version": one} for one in VERSIONS]),
    "dtype": st.sampled_from(
        [
            {"torch_dtype": "float32", "dtype": None},
            {"torch_dtype": "float16"},
            {"dtype": "bfloat16"},
            {"torch_dtype": "float16", "dtype": "float32"},
        ]
    ),
    "positions": st.sampled_from([{"position_embedding_type": one} for one in ("absolute", None)]),
    "labels": st.sampled_from(
        [
            {"label2id": None},
            {"label2id": {name: str(number) for number, name in enumerate(LABELS)}},
            {"label2id": {"LABEL_0": 0, "LABEL_1": 1}},
            {"id2label": {"2": "c", "0": "a", "1": "b"}},
            {"num_labels": 3},
            {"id2label": None, "label2id": None, "num_labels": 3},
            {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "num_labels": 3},
        ]
    ),
    "epsilon": st.just({"layer_norm_eps": None}),  # the types' own, which the folder states
    "tuples": st.sampled_from([{"return_dict": False}, {"torchscript": True}]),
    "further": st.sets(st.sampled_from(sorted(FURTHER)), max_size=4).map(
        lambda keys: {name: FURTHER[name] for name in keys}
    ),
}


def edited(config: Json, edits: Json) -> Json:
    """With keys set, or left out where None is given."""
    merged = config | edits
    return {name: value for name, value in merged.items() if edits.get(name, value) is not None}


WRAPPERS = st.one_of(
    st.sampled_from(["", "module.", "model.", "_orig_mod.", "0.auto_model.", "student.encoder."]),
    st.from_regex(r"([a-z_]{1,8}\.){1,3}", fullmatch=True),
)


def old_names(name: str) -> str:
    """As checkpoints had them that were made from TensorFlow's."""
    return re.sub(
        r"LayerNorm\.(weight|bias)$",
        lambda found: f"LayerNorm.{'gamma' if found[1] == 'weight' else 'beta'}",
        name,
    )


@pytest.mark.slow
@settings(max_examples=60)
@given(kind=KINDS, data=st.data(), wrapper=WRAPPERS, is_old=st.booleans(), is_bare=st.booleans())
def test_another_versions_folder_is_the_same_teacher(
    write: Callable[[Folder], Path],
    kind: str,
    data: st.DataObject,
    wrapper: str,
    is_old: bool,
    is_bare: bool,
) -> None:
    original = ORIGINALS[kind]
    config = original.config
    for part in sorted(data.draw(st.sets(st.sampled_from(sorted(SAME))), label="parts")):
        config = edited(config, data.draw(SAME[part], label=part))
    weights = original.weights
    if is_bare:  # as a model without a head is saved
        base = f"{kind}."
        weights = {
            name.removeprefix(base): one for name, one in weights.items() if name.startswith(base)
        }
        config = config | {"architectures": ["Model"]}
    assume(not wrapper.endswith(f"{kind}."))
    weights = {wrapper + (old_names(name) if is_old else name): w for name, w in weights.items()}
    place = write(Folder(config, weights))
    inspect_teacher(str(place), TASK, max_length=16)
    found, has_head = loaded(place)
    assert has_head == (kind in ("bert", "roberta") and not is_bare)
    assert_equal(found, REFERENCES[kind], has_head)


# ---- what is not, or may not be ------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 30),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["12", "relative_key", "float32", "gelu", "gelu_new", "swish", "auto", "bert",
                     "BertForMaskedLM", "single_label_classification", "regression"]),
)  # fmt: skip
JUNK = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(
        st.sampled_from(["0", "1", "2", "3", "-1", "x", "a", "LABEL_0"]),
        st.one_of(st.sampled_from([*LABELS, "d", 0, 1, None, "LABEL_0"]), SCALARS),
        max_size=4,
    ),
    st.permutations(LABELS).map(lambda names: {str(row): one for row, one in enumerate(names)}),
)
KEYS = st.one_of(
    st.sampled_from(sorted({key for folder in ORIGINALS.values() for key in folder.config})),
    st.sampled_from(
        ["num_labels", "torch_dtype", "position_embedding_type", "return_dict", "torchscript",
         "output_hidden_states", "output_attentions", "pruned_heads", "embedding_size",
         "is_decoder", "add_cross_attention", "auto_map", "quantization_config",
         "attn_implementation", "problem_type", "is_encoder_decoder", "num_return_sequences",
         "sinusoidal_pos_embds", "tie_word_embeddings", "use_return_dict", "layer_types"]
    ),
    st.text("abcdef_", min_size=1, max_size=12),
)  # fmt: skip


def expected_of(place: Path, kind: str) -> Computed:
    """By the configuration as it is read now, in the order of the task's labels.

    What ``transformers`` reads and cannot compute by is of no weight: then as before.
    """
    config = AutoConfig.from_pretrained(place)
    names = dict(config.id2label)
    config.num_labels = len(LABELS)
    try:
        computed = stock(config, ORIGINALS[kind].weights)
    except (TypeError, ValueError, AttributeError):
        computed = REFERENCES[kind]
    if set(names.values()) != set(LABELS):
        return computed
    order = [next(row for row, one in names.items() if one == name) for name in LABELS]
    return computed._replace(logits=computed.logits[:, order])


@pytest.mark.slow
@settings(max_examples=120)
@given(
    kind=KINDS, edits=st.dictionaries(KEYS, JUNK, min_size=1, max_size=3), is_left_out=st.booleans()
)
def test_any_configuration_is_read_as_transformers_reads_it_or_refused(
    write: Callable[[Folder], Path], kind: str, edits: Json, is_left_out: bool
) -> None:
    original = ORIGINALS[kind]
    assume(edits.get("pad_token_id") not in IDS.flatten().tolist())  # no text holds it
    config = original.config | edits
    if is_left_out:
        config = {name: value for name, value in config.items() if name not in edits}
    place = write(Folder(config, original.weights))
    with suppress(NasError):
        inspect_teacher(str(place), TASK, max_length=16)
    try:
        found, has_head = loaded(place)
    except NasError as error:
        assert_one_line(error)
        return
    assert_equal(found, expected_of(place, kind), has_head)


def spoilt(weights: Weights, name: str, how: str) -> Weights:
    """With one weight that is not as it was."""
    changed = dict(weights)
    tensor = changed.pop(name)
    match how:
        case "renamed":
            changed[f"{name}_"] = tensor
        case "renamed, unseen":
            changed[f"\n\u202e{name}"] = tensor
        case "longer":
            changed[name] = torch.cat([tensor, tensor[:1]])
        case "shorter":
            changed[name] = tensor[:-1]
        case "flat":
            changed[name] = tensor.reshape(-1, 1)
        case "a number":
            changed[name] = tensor.sum()
        case "not finite":
            changed[name] = tensor.clone()
            changed[name].view(-1)[-1] = float("inf")
    return changed


SPOILT = ("absent", "renamed", "renamed, unseen", "longer", "shorter", "flat", "a number",
          "not finite")  # fmt: skip


@pytest.mark.slow
@settings(max_examples=60)
@given(
    kind=KINDS,
    data=st.data(),
    how=st.sampled_from(SPOILT),
    wrapper=st.sampled_from(["", "module.", "a.b."]),
    is_old=st.booleans(),
)
def test_a_weight_that_is_not_the_models_is_named(
    write: Callable[[Folder], Path],
    kind: str,
    data: st.DataObject,
    how: str,
    wrapper: str,
    is_old: bool,
) -> None:
    config, weights = ORIGINALS[kind]
    is_ready = kind in ("bert", "roberta")
    name = data.draw(
        st.sampled_from([one for one in weights if is_ready or one.startswith(kind)]), label="name"
    )
    changed = spoilt(weights, name, how)
    changed = {wrapper + (old_names(one) if is_old else one): w for one, w in changed.items()}
    with pytest.raises(NasError) as refused:
        load_teacher(str(write(Folder(config, changed))), TASK, seed=0)
    assert_one_line(refused.value)
    if wrapper and how.startswith(("absent", "renamed")) and "word_embeddings" in name:
        assert f"but {wrapper}" in str(refused.value)  # by these a wrapper would be known
    else:
        assert name.rpartition(".")[0] in str(refused.value)
