"""Make the samples beside this file with the code of an earlier commit.

Run it with ``PYTHONPATH`` naming a checkout of that commit: it starts that checkout's commands.

    PYTHONPATH=../earlier python tests/compatibility/make_samples.py search
    PYTHONPATH=../earlier python tests/compatibility/make_samples.py service
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import yaml
from transformers import BertConfig, BertModel, BertTokenizerFast

SAMPLES = Path(__file__).parent / "samples"
WORDS = [f"word{number}" for number in range(12)]
PORT = 18_653

SPACE = {
    "name": "sample",
    "num_layers": [1, 2],
    "hidden_size": [8, 16],
    "num_heads": [1, 2],
    "qkv_size": "hidden_size",
    "head_size": [8],
    "intermediate_size": [16, 32],
    "uniform": True,
}
STUDENT = {
    "hidden_size": 8,
    "layers": [{"num_heads": 1, "qkv_size": 8, "intermediate_size": 16}],
}
TARGET = {"threads": 1, "batch_size": 1, "sequence_length": 8}
TRAINING = {"batch_size": 16, "learning_rate": 5e-3}
DISTIL = {"name": "distil", "losses": {"hard": 0.3, "soft": 1.0, "hidden": 1.0}}
RACE = {
    "max_length": 8,
    "finetune": {"batch_size": 16, "learning_rate": 1e-2, "epochs": 8, "patience": 8},
    "importance_examples": 32,
    "supernet": None,
    "scores": "fitted",
    "profile_s": 2,
    "count_disturbed": True,
    "timing_rounds": 4,
    "search": {"evaluations": 5, "refinement": 1},
    "race": {"finalists": 2, "rungs": [20]},
    "distill": {"checks": 1, "stages": [DISTIL | {"training": TRAINING | {"steps": 40}}]},
}
"""A search that scores fits and ends in a race."""

SUPERNET = RACE | {
    "scores": "repaired",
    "race": None,
    "general": {
        "texts": "data",
        "settings": {
            "training": TRAINING | {"epochs": 1},
            "num_random": 1,
            "soft_weight": 0.0,
            "hard_weight": 0.0,
            "relation_weight": 1.0,
        },
    },
    "supernet": {"training": TRAINING | {"epochs": 2}, "num_random": 1},
    "distill": RACE["distill"] | {"start": "own"},
}
"""A search that trains a supernet, and develops the best by its scores."""


def write_teacher(folder: str, hidden_size: int, num_layers: int) -> None:
    torch.manual_seed(0)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: row for row, word in enumerate([*special, *WORDS])}
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=hidden_size, num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // 8, intermediate_size=2 * hidden_size,
        max_position_embeddings=64, initializer_range=0.1,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)


def write_data(folder: str, label: Callable[[int], object]) -> None:
    """Texts of 3 to 6 words, whose label is a function of the first one's number."""
    Path(folder).mkdir()
    rng, rows = np.random.default_rng(0), []
    for _ in range(200):
        numbers = rng.integers(0, len(WORDS), rng.integers(3, 7))
        text = " ".join(WORDS[number] for number in numbers)
        rows.append({"text": text, "label": label(int(numbers[0]))})
    Path(folder, "train.jsonl").write_text("\n".join(map(json.dumps, rows)))


def write_inputs() -> None:
    write_teacher("teacher", hidden_size=16, num_layers=2)
    write_teacher("narrow", hidden_size=8, num_layers=1)
    write_data("data", label=lambda number: f"class{number % 3}")
    write_data("values", label=lambda number: number / 4)
    for name, content in {
        "space": SPACE, "target": TARGET, "race": RACE, "supernet": SUPERNET
    }.items():  # fmt: skip
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def command(program: str, *words: str, output: Path | None = None) -> subprocess.Popen[bytes]:
    module = {"nas": "nas.cli", "latency": "latency.cli"}[program]
    print("$", program, *words)
    written = None if output is None else output.open("wb")
    return subprocess.Popen(
        [sys.executable, "-c", f"from {module} import main; main()", *words], stdout=written
    )


def run(program: str, *words: str) -> None:
    if command(program, *words).wait():
        sys.exit(f"{program} {words[0]} failed")


def make_search() -> None:
    """A workspace, its study, results, and a profile that a bundle measured."""
    asked = ["--data", "data", "--workspace", "workspace"]
    search = ["search", *asked, "--teacher", "teacher", "--space", "space.yaml"]
    search += ["--target", "target.yaml", "--study", "sqlite:///study.db"]
    run("nas", *search, "--latency", "5ms", "--recipe", "race.yaml", "-o", "result")
    run(
        "nas", *search, "--latency", "5ms@p95", "--recipe", "supernet.yaml", "-o", "result-supernet"
    )
    run("nas", "distill", "--teacher", "narrow", "--data", "values", "--workspace", "workspace",
        json.dumps(STUDENT), "--recipe", "race.yaml", "-o", "distilled")  # fmt: skip
    run("latency", "bundle", "--space", "space.yaml", "--sequence", "8", "--threads", "1",
        "--chosen", "10", "--drawn", "20", "-o", "bundle.pyz")  # fmt: skip
    subprocess.run(
        [sys.executable, "bundle.pyz", "--time", "10s", "-o", "bundled.json"], check=True
    )
    for one in ("result", "result-supernet", "distilled"):
        with suppress(FileNotFoundError):
            Path(one, "report.html").unlink()  # as large as all else, and nothing reads it
    shutil.rmtree("result-supernet/model")
    Path("result-supernet/model.onnx").unlink()
    for one in (".lock", ".lock-owner"):
        Path("workspace", one).unlink(missing_ok=True)
    left_out = {"bundle.pyz", "study.db.lock"}
    with tarfile.open(SAMPLES / "search.tar.xz", "w:xz", preset=9) as archive:
        for path in sorted(Path().iterdir()):
            if path.name not in left_out:
                archive.add(path, filter=without_owner)


def without_owner(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def ask(method: str, path: str, token: str, content: object = None) -> dict:
    body = None if content is None else json.dumps(content).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", body, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def serve(*words: str) -> subprocess.Popen[bytes]:
    """A service that has begun to answer."""
    server = command("nas", "serve", "--config", "service.yaml", *words)
    for _ in range(600):
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/healthz").close()
            return server
        time.sleep(0.2)
    sys.exit("the service does not answer")


def make_service() -> None:
    """A backup of a service that has done one search, and holds another that waits."""
    service = {"port": PORT, "data": "service", "auth": "required"}
    Path("service.yaml").write_text(yaml.safe_dump(service))
    token_file = Path("ada.token")
    run("nas", "admin", "token", "create", "--config", "service.yaml", "--owner", "ada",
        "--scope", "admin", "--days", "0", "--output", str(token_file))  # fmt: skip
    token = token_file.read_text().strip()
    os.environ |= {"NAS_TOKEN": token, "NAS_SERVER": f"http://127.0.0.1:{PORT}"}
    search = ["submit", "--data", "data", "--teacher", "teacher", "--latency", "5ms"]
    search += ["--space", "space.yaml", "--recipe", "race.yaml"]
    server = serve()
    run("nas", *search, "--watch")
    server.terminate()
    server.wait()
    server = serve("--no-worker")
    run("nas", *search, "--seed", "1")
    ask("PUT", "/v1/targets/pi", token, {"target": TARGET})
    server.terminate()
    server.wait()
    (SAMPLES / "service.token").write_text(token)
    run("nas", "admin", "backup", "--config", "service.yaml", str(SAMPLES / "service.tar.gz"))


if __name__ == "__main__":
    make = {"search": make_search, "service": make_service}[sys.argv[1]]
    SAMPLES.mkdir(exist_ok=True)
    with TemporaryDirectory() as scratch:
        os.chdir(scratch)
        write_inputs()
        make()
        if "--keep" in sys.argv:
            shutil.copytree(scratch, sys.argv[-1], symlinks=True)
