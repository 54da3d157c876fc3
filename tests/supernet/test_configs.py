from __future__ import annotations

import pytest

from supernet.configs import config_names, load_space, read_config, read_mapping
from supernet.errors import NasError


def test_names_are_those_of_files():
    assert {"minilm", "tiny"} <= set(config_names("spaces"))
    assert load_space("tiny").name == "tiny"


def test_an_unknown_name_is_told_those_known():
    with pytest.raises(NasError, match=r"space 'nonesuch' is unknown; known are .*tiny"):
        read_config("spaces", "nonesuch")


def test_json_is_read_too(tmp_path):
    path = tmp_path / "lengths.json"
    path.write_text('{"8": 3, "16": 1}')
    assert read_mapping(path, "lengths") == {"8": 3, "16": 1}


@pytest.mark.parametrize(
    ("content", "says"), [("- 1", "needs keys and values"), ("a: [", "not valid YAML")]
)
def test_what_is_no_mapping_is_refused(tmp_path, content, says):
    path = tmp_path / "space.yaml"
    path.write_text(content)
    with pytest.raises(NasError, match=says):
        read_config("spaces", str(path))
    with pytest.raises(NasError, match="cannot be read"):
        read_config("spaces", str(tmp_path / "none.yaml"))
