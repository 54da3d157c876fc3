from __future__ import annotations

import json

import pytest

from latency.candidates import read_candidates
from supernet.architecture import Architecture, EncoderShape, Layer
from supernet.errors import NasError

ONE = Architecture(32, (Layer(2, 16, 64), Layer(1, 24, 32)))
SMALL = Architecture(32, (Layer(2, 16, 64, 3), Layer(1, 24, 32)))
TWO = Architecture.uniform(num_layers=2, hidden_size=32, num_heads=2, intermediate_size=64)


def test_text_files_and_lists(tmp_path):
    path = tmp_path / "some.json"
    path.write_text(json.dumps([ONE.to_dict(), TWO.to_dict()]))
    assert [one.architecture for one in read_candidates(str(path))] == [ONE, TWO]
    assert read_candidates(ONE.to_json()) == [(ONE, None, True)]


@pytest.mark.parametrize("architecture", [ONE, TWO, SMALL])
@pytest.mark.parametrize("inside", [".", "model"])
def test_folders_of_models_are_read_as_transformers_reads_them(tmp_path, architecture, inside):
    from supernet.student import architecture_of, new_student, shape_of

    shape = EncoderShape(vocab_size=50, max_positions=16, num_labels=3, hidden_act="relu")
    model = new_student(architecture, shape)
    model.config.save_pretrained(tmp_path / inside)
    assert read_candidates(str(tmp_path)) == [(architecture, shape, True)]
    assert architecture_of(model.config) == architecture
    assert shape_of(model.config) == shape


def test_factors_that_no_layer_of_a_space_has_are_noted(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "model_type": "tailorbert",
                **ONE.to_dict(),
                "factors": {"encoder.layer.0.output.dense": [4, 8, 8, 8, 1]},
            }
        )
    )
    (found,) = read_candidates(str(tmp_path))
    assert found.architecture == ONE
    assert not found.told


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("6x384", "neither JSON nor a file"),
        ("{", "not valid JSON"),
        ("{}", "needs exactly the keys"),
        ("[3]", "must be a mapping"),
        ('{"model_type": "gpt2"}', "accepted are bert, tailorbert"),
        ('{"model_type": "bert", "hidden_size": 8}', "needs 'num_hidden_layers'"),
        ("x" * 5000, "cannot be read"),
    ],
)
def test_what_is_no_architecture(text, says):
    with pytest.raises(NasError, match=says):
        read_candidates(text)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(NasError, match="holds no model"):
        read_candidates(str(tmp_path))
