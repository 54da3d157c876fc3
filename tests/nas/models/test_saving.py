"""Files of a model that others than their writer may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from nas.models.saving import save_model
from tests.nas.learnt import write_teacher


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_all_files_have_the_mode_that_the_umask_gives(
    tmp_path: Path, umask: int, mode: int
) -> None:
    write_teacher(tmp_path / "teacher")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "teacher")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "teacher")
    before = os.umask(umask)
    try:
        save_model(model, tokenizer, tmp_path / "saved")
    finally:
        os.umask(before)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "saved").iterdir()
    }
    assert modes == dict.fromkeys(modes, mode)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(modes)
