import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification

from supernet.architecture import Architecture, EncoderShape, Layer, layer_map
from supernet.errors import NasError
from supernet.student import new_student

layers = st.builds(
    lambda heads, size, *rest: Layer(heads, heads * size, *rest),
    st.integers(1, 16),
    st.integers(1, 128),
    st.integers(1, 5000),
    st.sampled_from([1, 1, 2, 7]),
)
architectures = st.builds(
    Architecture, st.integers(1, 2000), st.lists(layers, min_size=1, max_size=6).map(tuple)
)


@given(architectures)
def test_json_round_trip(architecture: Architecture) -> None:
    again = Architecture.from_json(architecture.to_json())
    assert again == architecture
    assert hash(again) == hash(architecture)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{", "not valid JSON"),
        ("[]", "mapping"),
        ('{"hidden_size": 8}', "layers"),
        ('{"hidden_size": 8, "layers": 3}', "layers must be a list"),
        ('{"hidden_size": 8, "layers": []}', "at least one layer"),
        ('{"hidden_size": 8, "layers": [{"num_heads": 2}]}', "qkv_size"),
    ],
)
def test_malformed_json_is_refused(text: str, names: str) -> None:
    with pytest.raises(NasError, match=names):
        Architecture.from_json(text)


def test_layers_are_whole_unless_they_say_how_much_smaller_they_are() -> None:
    layer = {"num_heads": 2, "qkv_size": 8, "intermediate_size": 16}
    whole = Architecture.from_dict({"hidden_size": 8, "layers": [layer]})
    small = Architecture.from_dict({"hidden_size": 8, "layers": [layer | {"compression": 3}]})
    assert not whole.is_factored
    assert small.is_factored
    assert small.whole == whole
    assert str(small) == f"{whole} c3"
    assert small.fits_in(whole)
    with pytest.raises(NasError, match="compression must be a whole number of at least 1"):
        Architecture.from_dict({"hidden_size": 8, "layers": [layer | {"compression": 0}]})


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8", None])
def test_sizes_must_be_positive_whole_numbers(value: object) -> None:
    data = {
        "hidden_size": value,
        "layers": [{"num_heads": 1, "qkv_size": 8, "intermediate_size": 8}],
    }
    with pytest.raises(NasError, match="hidden_size"):
        Architecture.from_dict(json.loads(json.dumps(data)))


def test_heads_must_divide_qkv_size() -> None:
    with pytest.raises(NasError, match="qkv_size 10 is not a multiple of num_heads 4"):
        Layer(4, 10, 16)


@pytest.mark.parametrize("sizes", [(2, 32, 4, 48), (6, 384, 12, 1536), (1, 64, 1, 128)])
def test_parameters_equal_stock_bert(sizes: tuple[int, int, int, int]) -> None:
    depth, hidden, heads, intermediate = sizes
    stock = BertForSequenceClassification(
        BertConfig(
            vocab_size=1000,
            max_position_embeddings=64,
            num_hidden_layers=depth,
            hidden_size=hidden,
            num_attention_heads=heads,
            intermediate_size=intermediate,
            num_labels=5,
        )
    )
    architecture = Architecture.uniform(
        num_layers=depth,
        hidden_size=hidden,
        num_heads=heads,
        intermediate_size=intermediate,
    )
    assert architecture.parameters(EncoderShape(1000, 64, 2, 5)) == stock.num_parameters()


def test_parameters_and_multiplications_equal_a_compressed_students() -> None:
    """A matrix of 2 by 24 is too small to be 3 times smaller, and stays whole."""
    shape = EncoderShape(100, 16, 2, 3)
    architecture = Architecture(24, (Layer(4, 16, 48, 2), Layer(2, 2, 64, 3), Layer(2, 24, 8)))
    student = new_student(architecture, shape)
    assert architecture.parameters(shape) == student.num_parameters()
    weights = sum(
        parameter.numel()
        for name, parameter in student.named_parameters()
        if name.startswith("bert.encoder.layer")
        and name.rpartition(".")[2] in ("weight", "left", "right")
        and "LayerNorm" not in name
    )
    assert sum(layer.weights(24) for layer in architecture.layers) == weights
    assert "layer.1.attention.self.query" not in str(list(architecture.factors))
    assert len(architecture.factors) == 6 + 2
    attended = 4 * 8 * 8 * sum(layer.qkv_size for layer in architecture.layers)
    assert architecture.flops(8) == 2 * 8 * weights + attended


@given(architectures)
def test_a_students_configuration_tells_of_its_compressed_layers(
    architecture: Architecture,
) -> None:
    """As the least compression that has the same factors."""
    config = {
        "model_type": "tailorbert",
        **architecture.whole.to_dict(),
        "factors": {name: one.sizes for name, one in architecture.factors.items()},
    }
    told = Architecture.from_config(config)
    assert told.factors == architecture.factors
    assert told.whole == architecture.whole
    pairs = zip(told.layers, architecture.layers, strict=True)
    assert all(mine.compression <= theirs.compression for mine, theirs in pairs)
    config["factors"] = {key: [2, 3, 4, 5, 1] for key in config["factors"]}
    assert not Architecture.from_config(config).is_factored


@pytest.mark.parametrize(
    ("factors", "says"),
    [
        ([1], "factors must be a mapping"),
        ({"encoder.layer.0.output.dense": []}, "must be .m1, n1, m2, n2, terms., not"),
        ({"encoder.layer.0.output.dense": 5}, "must be .m1, n1, m2, n2, terms., not 5"),
        ({"encoder.layer.0.output.dense": [8, 1, 1, 8, 0]}, "at least 1, not 0"),
    ],
)
def test_bad_factors_are_one_clear_line(factors: object, says: str) -> None:
    config = {"model_type": "tailorbert", **Architecture(8, (Layer(2, 8, 8),)).to_dict()}
    with pytest.raises(NasError, match=says):
        Architecture.from_config(config | {"factors": factors})


def test_published_sizes() -> None:
    """TinyBERT's paper counts 14.5M parameters and 1.2B FLOPs for 4x312 (its table 1).

    Its FLOPs are multiply-adds at length 128.
    """
    tiny = Architecture.uniform(num_layers=4, hidden_size=312, num_heads=12, intermediate_size=1200)
    assert tiny.parameters() / 1e6 == pytest.approx(14.4, abs=0.1)
    assert tiny.flops(128) / 2e9 == pytest.approx(0.6, abs=0.05)


def test_native_means_equal_layers_as_wide_as_the_hidden_size() -> None:
    native = Architecture.uniform(num_layers=2, hidden_size=8, num_heads=2, intermediate_size=16)
    assert native.is_native
    assert not Architecture(8, (Layer(2, 8, 16), Layer(2, 8, 32))).is_native
    assert not Architecture(8, (Layer(2, 16, 16),)).is_native
    assert not Architecture(8, (Layer(2, 8, 16, 2),)).is_native


def test_fits_in_compares_heads_and_their_size_apart() -> None:
    full = Architecture(32, (Layer(4, 32, 64),) * 2)
    assert Architecture(32, (Layer(2, 16, 64),)).fits_in(full)
    assert not Architecture(32, (Layer(1, 16, 64),)).fits_in(full)  # a head of 16 > 8
    assert not Architecture(32, (Layer(4, 32, 64),) * 3).fits_in(full)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [(4, 12, [0, 3, 6, 9, 12]), (3, 6, [0, 2, 4, 6]), (4, 6, [0, 2, 3, 4, 6]), (1, 6, [0, 6])],
)
def test_layer_map(student: int, teacher: int, expected: list[int]) -> None:
    assert layer_map(student, teacher) == expected
