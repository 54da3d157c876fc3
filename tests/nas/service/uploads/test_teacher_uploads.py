"""Teachers over HTTP: a user's own model is kept, found whole, and named by a search."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs tailorbert[service]")

import torch
from fastapi.testclient import TestClient
from safetensors.torch import load, save
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from nas.data.task_data import load_data
from nas.models.teacher import load_teacher
from nas.service.access.tokens import create_token
from nas.service.api.app import create_app
from nas.service.jobs.job import Job
from nas.service.jobs.stages import Stages
from nas.service.uploads.kept import source, upload_folder
from nas.service.uploads.teachers import check_teacher
from nas.tasks.classification import CLASSIFICATION
from nas.tasks.task import Task
from supernet.errors import NasError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
TASK = Task("reviews", CLASSIFICATION, ("bad", "good"), "accuracy")
IDS = torch.tensor([[2, 5, 6, 3]])
SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}

Parts = dict[str, bytes]


def parts_of(model: Any, folder: Path) -> Parts:
    model.save_pretrained(folder)
    BertTokenizerFast(vocab={word: row for row, word in enumerate(WORDS)}).save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """The files of a small classifier."""
    torch.manual_seed(0)
    names = {0: "good", 1: "bad"}
    config = BertConfig(vocab_size=8, id2label=names, **SIZES)
    return parts_of(BertForSequenceClassification(config), tmp_path_factory.mktemp("teacher"))


def zip_of(members: Parts) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(zipfile.ZipInfo(name), content)
    return sink.getvalue()


def put(client: TestClient, name: str, members: Parts) -> Any:
    return client.put(
        f"/v1/teachers/{name}", params={"filename": "teacher.zip"}, content=zip_of(members)
    )


def changed(parts: Parts, **keys: Any) -> Parts:
    """With other values in ``config.json``."""
    config = json.loads(parts["config.json"]) | keys
    return parts | {"config.json": json.dumps(config).encode()}


def test_a_teacher_is_kept_and_is_the_one_that_was_sent(client, service, parts):
    made = put(client, "mine", parts)
    assert made.status_code == 201, made.text
    record = made.json()
    told = {name: record[name] for name in ("model_type", "layers", "hidden_size", "labels")}
    assert told == {
        "model_type": "bert",
        "layers": 2,
        "hidden_size": 8,
        "labels": ["good", "bad"],
    }
    kept = load_teacher(source(service, "teacher", "mine"), TASK, seed=0)
    own = BertForSequenceClassification(BertConfig(vocab_size=8, **SIZES)).eval()
    own.load_state_dict(load(parts["model.safetensors"]))
    with torch.no_grad():
        assert torch.equal(kept.model(IDS).logits, own(IDS).logits[:, [1, 0]])
    assert kept.tokenizer("a b")["input_ids"] == [2, 5, 6, 3]
    assert client.get("/v1/teachers/mine").json() == record
    assert client.get("/v1/teachers").json() == {"items": [record], "next": None}
    assert put(client, "mine", parts).status_code == 200
    assert "mine" in client.get("/v1/catalog").json()["teachers"]


REVIEWS = b"text,label\n" + b"a b,good\nb,bad\n" * 30


def tried(client: TestClient, **asked: Any) -> Any:
    return client.post("/v1/teachers/mine:try", json={"data": "reviews", **asked})


def put_reviews(client: TestClient, content: bytes = REVIEWS) -> None:
    made = client.put("/v1/datasets/reviews?filename=reviews.csv", content=content)
    assert made.status_code == 201, made.text


def test_what_a_teacher_scores_on_data_is_told_before_anything_is_trained(client, service, parts):
    put(client, "mine", parts)
    put_reviews(client)
    answer = tried(client)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["data"][0].startswith("reviews: ")
    assert told["data"][1] == "texts from text, labels from label: 2 classes, bad 50.0%, good 50.0%"
    assert (told["metric"], told["baseline_score"]) == ("accuracy", 0.5)
    data = load_data(source(service, "dataset", "reviews"), seed=0)
    teacher = load_teacher(source(service, "teacher", "mine"), data.task, seed=0)
    predicted = [
        teacher.model(**teacher.tokenizer(text, return_tensors="pt")).logits.argmax().item()
        for text in data.validation.text_a
    ]
    right = [one == label for one, label in zip(predicted, data.validation.labels, strict=True)]
    assert told["examples"] == len(right)
    assert told["score"] == pytest.approx(sum(right) / len(right))


def test_a_head_in_another_order_shows_in_a_trial(client, parts):
    bent = load(parts["model.safetensors"])
    ids = torch.tensor([[2, 5, 6, 3]])  # a b
    model = BertForSequenceClassification(BertConfig(vocab_size=8, **SIZES)).eval()
    for sign in (1, -1):  # a head that tells the two texts apart, by their pooled difference
        model.load_state_dict(bent)
        with torch.no_grad():
            pooled = model.bert(ids).pooler_output - model.bert(ids[:, [0, 2, 3]]).pooler_output
        bent["classifier.weight"] = torch.cat([sign * pooled, -sign * pooled]) * 1e3
        with torch.no_grad():
            middle = model.bert(ids).pooler_output + model.bert(ids[:, [0, 2, 3]]).pooler_output
        bent["classifier.bias"] = -(bent["classifier.weight"] @ middle[0] / 2)
        members = parts | {"model.safetensors": save(bent)}
        client.delete("/v1/teachers/mine")
        assert put(client, "mine", changed(members, id2label={"0": "x", "1": "y"})).is_success
        if sign == 1:
            put_reviews(client)
        for labels, right in ((["good", "bad"], sign == 1), (["bad", "good"], sign == -1)):
            told = tried(client, labels=labels).json()
            assert told["score"] == float(right)
            assert (told["doubt"] is None) is right
            if not right:
                assert "were its classes in another order" in told["doubt"]


def test_a_trial_tells_a_teacher_from_data_of_its_name(client, parts):
    put(client, "mine", parts)
    assert client.put("/v1/datasets/mine?filename=a.csv", content=REVIEWS).status_code == 201
    told = tried(client, data="mine")
    assert told.status_code == 200
    assert told.json()["data"][0].startswith("mine: ")


def test_a_trial_says_what_does_not_fit_and_not_where_things_lie(client, service, parts):
    put(client, "mine", parts)
    put_reviews(client, REVIEWS.replace(b"good", b"fine"))
    unfit = tried(client)
    assert unfit.status_code == 422
    assert "fine" in unfit.json()["detail"]
    assert str(service.settings.data) not in unfit.text
    assert tried(client, label_column="mood").status_code == 422
    assert tried(client, data="lost").status_code == 404
    assert client.post("/v1/teachers/lost:try", json={"data": "reviews"}).status_code == 404
    assert not list(service.folder("uploads").glob("[!.]*"))


def test_a_search_that_refuses_a_teacher_says_not_where_it_lies(client, service, parts, tmp_path):
    put(client, "mine", parts)
    put_reviews(client, REVIEWS.replace(b"good", b"fine"))
    wanted = {"budgets": ["4x"], "recipe": "smoke", "teacher": "mine", "data": "reviews"}
    search = client.post("/v1/searches", json=wanted).json()
    settings = service.settings.model_dump_json()
    job = Job(search["id"], 1, search["request"], settings, str(tmp_path / "scratch"))
    told: list[Any] = []
    stages = Stages(job, lambda kind, data: told.append(data))
    stages.run("data")
    with pytest.raises(NasError, match="teacher teachers/mine predicts bad, good") as refused:
        stages.run("profiles")
    assert str(service.settings.data) not in f"{refused.value} {told}"


def test_a_teacher_without_a_head_is_tried_on_its_tokens_alone(client, parts):
    bare = {k: v for k, v in load(parts["model.safetensors"]).items() if "classifier" not in k}
    members = parts | {"model.safetensors": save(bare)}
    put(client, "mine", changed(members, architectures=["BertModel"]))
    put_reviews(client)
    told = tried(client).json()
    assert (told["score"], told["examples"], told["doubt"]) == (None, 0, None)


def test_a_search_names_it_and_it_stays_until_the_search_has_ended(client, service, parts):
    put(client, "mine", parts)
    wanted = {"budgets": ["4x"], "recipe": "smoke", "teacher": "mine"}
    search_id = client.post("/v1/searches", json=wanted).json()["id"]
    refused = client.delete("/v1/teachers/mine")
    assert refused.status_code == 409
    assert search_id in refused.json()["detail"]
    client.post(f"/v1/searches/{search_id}:cancel")
    assert client.delete("/v1/teachers/mine").status_code == 204
    assert not (service.folder("teachers") / "mine").exists()
    unknown = client.post("/v1/searches", json=wanted)
    assert unknown.status_code == 422
    assert "teacher: 'mine' is unknown" in unknown.json()["detail"]
    with pytest.raises(NasError, match="no uploaded teacher 'mine'"):
        upload_folder(service, "teacher", "mine")


def test_another_users_is_not_deleted_and_the_services_own_not_replaced(client, service, parts):
    put(client, "mine", parts)
    _, token = create_token(service.engine, "bob", ["read", "submit"])
    with TestClient(create_app(service), headers={"Authorization": f"Bearer {token}"}) as other:
        assert other.delete("/v1/teachers/mine").status_code == 403
    assert put(client, "minilm", parts).status_code == 409


def test_files_of_a_wrapper_in_shards_and_half_precision_are_read(client, service, parts):
    """And an encoder without a head: a search trains one."""
    weights = {
        f"module.{name}": tensor.half()
        for name, tensor in load(parts["model.safetensors"]).items()
        if not name.startswith("classifier")
    }
    names = sorted(weights)
    halves = {"00001": names[: len(names) // 2], "00002": names[len(names) // 2 :]}
    shards, places = {}, {}
    for number, some in halves.items():
        file = f"model-{number}-of-00002.safetensors"
        shards[file] = save({name: weights[name] for name in some}, {"format": "pt"})
        places |= dict.fromkeys(some, file)
    index = json.dumps({"metadata": {}, "weight_map": places}).encode()
    others = {name: body for name, body in parts.items() if name != "model.safetensors"}
    sent = changed(others, architectures=["BertModel"]) | shards
    made = put(client, "half", sent | {"model.safetensors.index.json": index})
    assert made.status_code == 201, made.text
    assert made.json()["labels"] is None
    teacher = load_teacher(str(upload_folder(service, "teacher", "half")), TASK, seed=0)
    assert not teacher.has_head
    name = "bert.encoder.layer.1.output.dense.weight"
    assert torch.equal(teacher.model.state_dict()[name], weights[f"module.{name}"].float())


@pytest.mark.parametrize("kind", ["distilbert", "roberta"])
def test_other_types_are_kept(kind, tmp_path, monkeypatch):
    model: Any
    if kind == "roberta":
        model = RobertaForSequenceClassification(RobertaConfig(vocab_size=8, **SIZES))
    else:
        config = DistilBertConfig(vocab_size=8, dim=8, n_layers=2, n_heads=2, hidden_dim=16)
        model = DistilBertForSequenceClassification(config)
    members = parts_of(model, tmp_path / "given")
    monkeypatch.chdir(tmp_path)
    Path("given.zip").write_bytes(zip_of(members))
    told = check_teacher("given.zip", "other", unpacked_bytes=10_000_000)
    assert (told["model_type"], told["layers"]) == (kind, 2)
    assert told["labels"] == (["LABEL_0", "LABEL_1"] if kind == "roberta" else None)


def without(parts: Parts, name: str) -> Parts:
    return {one: body for one, body in parts.items() if one != name}


def with_weights(parts: Parts, change: Any) -> Parts:
    weights = load(parts["model.safetensors"])
    change(weights)
    return parts | {"model.safetensors": save(weights, {"format": "pt"})}


def pruned(weights: dict[str, torch.Tensor]) -> None:
    del weights["bert.encoder.layer.1.output.dense.bias"]


def spoilt(weights: dict[str, torch.Tensor]) -> None:
    weights["bert.embeddings.LayerNorm.weight"][0] = float("nan")


FAULTS = {
    "no configuration": (lambda parts: without(parts, "config.json"), "a teacher is config.json"),
    "no weights": (lambda parts: without(parts, "model.safetensors"), "a teacher is config.json"),
    "a pickle": (lambda parts: parts | {"pytorch_model.bin": b"1"}, "pytorch_model.bin"),
    "code": (lambda parts: parts | {"modeling.py": b"1"}, "modeling.py"),
    "remote code": (lambda parts: changed(parts, auto_map={"AutoModel": "x.Y"}), "auto_map"),
    "another type": (lambda parts: changed(parts, model_type="gpt2"), "is not BERT-like"),
    "too large": (
        lambda parts: changed(parts, num_hidden_layers=10**6),
        "num_hidden_layers: Input should be less",
    ),
    "a text for a size": (
        lambda parts: changed(parts, hidden_size="8"),
        "hidden_size: Input should be a valid integer",
    ),
    "other positions": (
        lambda parts: changed(parts, position_embedding_type="relative_key"),
        "position embeddings of type",
    ),
    "labels twice": (lambda parts: changed(parts, id2label={"0": "a", "1": "a"}), "label twice"),
    "a direction override": (
        lambda parts: changed(parts, id2label={"0": "a", "1": "\u202eb"}),
        r"config\.json: label: '.u202eb' holds U.202E",
    ),
    "no configuration at all": (
        lambda parts: parts | {"config.json": b"[]"},
        "must hold an object",
    ),
    "a pruned layer": (
        lambda parts: with_weights(parts, pruned),
        r"has no bert\.encoder\.layer\.1\.output\.dense\.bias",
    ),
    "not finite": (lambda parts: with_weights(parts, spoilt), "not finite"),
    "no tokenizer": (
        lambda parts: {name: parts[name] for name in ("config.json", "model.safetensors")},
        "neither tokenizer.json nor a vocabulary",
    ),
    "a broken tokenizer": (
        lambda parts: parts | {"tokenizer.json": b"{}"},
        "no tokenizer that loads",
    ),
    "a damaged file": (
        lambda parts: parts | {"model.safetensors": parts["model.safetensors"][:-9]},
        "does not load",
    ),
}


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS)
def test_faults_are_one_line(tmp_path, monkeypatch, parts, change, message):
    monkeypatch.chdir(tmp_path)
    Path("given.zip").write_bytes(zip_of(change(parts)))
    with pytest.raises(NasError, match=message) as raised:
        check_teacher("given.zip", "mine", unpacked_bytes=10_000_000)
    assert "\n" not in str(raised.value)
    assert str(tmp_path) not in str(raised.value)


def test_what_is_refused_leaves_nothing(client, service, parts):
    refused = put(client, "mine", changed(parts, auto_map={"AutoModel": "x.Y"}))
    assert refused.status_code == 422
    assert "never run" in refused.json()["detail"]
    assert client.get("/v1/teachers").json()["items"] == []
    assert [path for path in service.folder("teachers").rglob("*") if path.is_file()] == []
