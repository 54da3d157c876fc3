"""Data sets and supernets over HTTP: sent, shown, listed, deleted; and nothing left of bad ones."""

from __future__ import annotations

import base64
import io
import json
import os
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from safetensors.torch import load, save
from transformers import BertConfig, BertForSequenceClassification

from nas.data.task_data import load_data, load_texts
from nas.service.access.tokens import create_token
from nas.service.api.app import create_app
from nas.service.database.tables import searches
from nas.service.service import Service
from nas.service.upkeep.retention import collect
from nas.service.uploads.kept import (
    begin_arrival,
    find_upload,
    hold_upload,
    upload_folder,
)
from nas.service.uploads.supernets import check_supernet
from nas.settings import data_folder
from supernet.architecture import Architecture
from supernet.errors import NasError
from supernet.model import Supernet
from tests.nas.service.databases import on_both

GOOD = b"text,label\n" + b"".join(b"text %d,%d\n" % (n, n % 2) for n in range(30))
OTHER = GOOD + b"one more,1\n"


def put(
    client: TestClient, name: str, body: Any, filename: str = "data.csv", kind: str = "datasets"
) -> Any:
    return client.put(f"/v1/{kind}/{name}", params={"filename": filename}, content=body)


def files(service: Service) -> list[str]:
    """What lies in the folders of uploads."""
    return sorted(
        str(path.relative_to(service.settings.data))
        for kind in ("uploads", "datasets", "supernets")
        for path in service.folder(kind).rglob("*")
        if path.is_file()
    )


def zip_of(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return sink.getvalue()


@pytest.fixture
def other(service: Service) -> Iterator[TestClient]:
    """A client of user bob, who may submit."""
    _, token = create_token(service.engine, "bob", ["read", "submit"])
    with TestClient(create_app(service), headers={"Authorization": f"Bearer {token}"}) as client:
        yield client


def test_a_data_set_is_kept_and_shown(client, service):
    made = put(client, "reviews", GOOD)
    assert made.status_code == 201
    record = made.json()
    assert record["splits"] == {"train": 30}
    assert record["columns"] == [
        {"name": "text", "kind": "text"},
        {"name": "label", "kind": "whole"},
    ]
    assert record["labels"] == {"kind": "classification", "classes": 2, "names": ["0", "1"]}
    assert record["example"] == {"text": "text 0", "label": 0}
    assert client.get("/v1/datasets/reviews").json() == record
    assert client.get("/v1/datasets").json() == {"items": [record], "next": None}
    assert files(service) == ["datasets/reviews/train.parquet"]
    assert len(load_data(str(upload_folder(service, "dataset", "reviews")), seed=0).train) == 24


def test_the_same_again_changes_nothing_and_another_is_refused(client, other, service):
    first = put(client, "reviews", GOOD).json()
    again = put(client, "reviews", GOOD)
    assert (again.status_code, again.json()) == (200, first)
    refused = put(client, "reviews", OTHER)
    assert refused.status_code == 409
    assert refused.json()["detail"] == (
        "another dataset is called 'reviews': delete it, or take another name"
    )
    assert other.delete("/v1/datasets/reviews").status_code == 403
    assert client.delete("/v1/datasets/reviews").status_code == 204
    assert client.delete("/v1/datasets/reviews").status_code == 404
    assert put(other, "reviews", OTHER).json()["splits"] == {"train": 31}
    assert client.delete("/v1/datasets/reviews").status_code == 204  # an admin may
    assert files(service) == []


@on_both
def test_of_uploads_at_once_one_is_kept(client, service):
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda body: put(client, "reviews", body), [GOOD, GOOD, OTHER, GOOD]))
    statuses = sorted(one.status_code for one in made)
    assert statuses in ([200, 200, 201, 409], [201, 409, 409, 409])
    assert files(service) == ["datasets/reviews/train.parquet"]


def test_lists_come_in_pages(client):
    for name in ("a", "b", "c"):
        assert put(client, name, GOOD).status_code == 201
    first = client.get("/v1/datasets?limit=2").json()
    assert [item["name"] for item in first["items"]] == ["c", "b"]
    second = client.get("/v1/datasets", params={"limit": 2, "cursor": first["next"]}).json()
    assert [item["name"] for item in second["items"]] == ["a"]
    assert second["next"] is None


@on_both
@pytest.mark.parametrize(
    "given", ['[1e999, "a"]', '[NaN, "a"]', '[1, "\\ud800"]', '[1, "\\u0000"]', "[1]", "no"]
)
def test_a_cursor_that_was_not_given_out_is_refused(client, given):
    cursor = base64.urlsafe_b64encode(given.encode()).decode().rstrip("=")
    answer = client.get("/v1/datasets", params={"cursor": cursor})
    assert answer.status_code == 422
    assert "is not one of this list's" in answer.json()["detail"]


@on_both
@pytest.mark.parametrize(
    "request_",
    [
        {"data": "reviews"},
        {"data": "pydoc", "recipe": {"general": {"texts": "reviews"}}},
        {"data": "pydoc", "recipe": {"distill": {"texts": "reviews"}}},
    ],
)
def test_what_a_search_uses_is_not_deleted(client, service, request_):
    put(client, "reviews", GOOD)
    row = {"id": "s1", "owner": "bob", "created": 0.0, "updated": 0.0, "status": "queued",
           "attempt": 1, "priority": 100, "request": request_, "expired": False}  # fmt: skip
    with service.engine.begin() as connection:
        connection.execute(searches.insert().values(row))
    refused = client.delete("/v1/datasets/reviews")
    assert refused.status_code == 409
    assert "search s1" in refused.json()["detail"]
    assert files(service) == ["datasets/reviews/train.parquet"]
    with service.engine.begin() as connection:
        assert hold_upload(connection, "dataset", "reviews")
        assert not hold_upload(connection, "dataset", "others")
        connection.execute(searches.update().values(status="done"))
    assert client.delete("/v1/datasets/reviews").status_code == 204


def test_a_user_keeps_so_many(make_service):
    service = make_service(auth="required", limits={"stored_per_user": 1})
    _, token = create_token(service.engine, "ada", ["read", "submit"])
    with TestClient(create_app(service), headers={"Authorization": f"Bearer {token}"}) as client:
        assert put(client, "a", GOOD).status_code == 201
        assert put(client, "a", GOOD).status_code == 200
        refused = put(client, "b", OTHER)
    assert refused.status_code == 409
    assert (
        refused.json()["detail"] == "you have 1 data sets, teachers and supernets; delete one first"
    )


@pytest.mark.parametrize("streamed", [False, True])
def test_a_large_body_is_refused_on_the_way(make_service, streamed):
    service = make_service(limits={"upload_bytes": 1024})
    body = iter([b"x" * 1000] * 3) if streamed else b"x" * 3000
    with TestClient(create_app(service)) as client:
        refused = put(client, "large", body)
        assert refused.status_code == 413
        assert refused.json()["detail"] == "the body must be at most 1024 bytes"
        assert put(client, "small", GOOD).status_code == 201
    assert files(service) == ["datasets/small/train.parquet"]


def test_names_of_the_service_stay_its_own(make_service, tmp_path):
    service = make_service(datasets={"house": str(tmp_path)})
    with TestClient(create_app(service)) as client:
        for name in ("pydoc", "house"):
            assert put(client, name, GOOD).status_code == 409


@pytest.mark.parametrize("name", ["Upper", "-a", "a b", ".a", "a%0a", "x" * 64, "a%2fb", "ü"])
def test_names_are_plain(client, service, name):
    refused = put(client, name, GOOD)
    assert refused.status_code in (404, 415, 422)
    assert files(service) == []


@pytest.mark.parametrize(
    "filename",
    ["", ".csv", "../a.csv", "a.xlsx", "a.csv\n", "a\0.csv", "a.CSV", "a" * 200 + ".csv"],
)
def test_filenames_say_what_it_is(client, service, filename):
    refused = put(client, "reviews", GOOD, filename)
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("query.filename: ")
    assert files(service) == []


def test_malformed_uploads_leave_nothing(client, service):
    for filename, body in {
        "empty.csv": b"",
        "ragged.csv": GOOD + b"1,2,3\n",
        "latin.csv": GOOD + "é,1\n".encode("latin-1"),
        "nan.jsonl": b'{"text": "a", "label": NaN}\n',
        "deep.jsonl": b"[" * 100_000,
        "cut.parquet": b"PAR1\x15\x04",
        "lies.parquet": b"PAR1" + bytes(100) + b"\xff\xff\xff\x7fPAR1",
        "noise.zip": b"PK\x03\x04" + bytes(200),
        "up.zip": zip_of({"../train.csv": GOOD}),
        "bomb.zip": zip_of({"train.csv": bytes(20_000_000)}),
        "nested.zip": zip_of({"train.csv": zip_of({"train.csv": GOOD})}),
    }.items():
        refused = put(client, "reviews", body, filename)
        assert refused.status_code == 422, filename
        detail = refused.json()["detail"]
        assert detail, filename
        assert "\n" not in detail, filename
        assert str(service.settings.data) not in detail
        assert files(service) == []
    assert put(client, "reviews", GOOD).status_code == 201


REAL = {"trec": None, "sst2": None, "cola": "matthews", "rte": None, "stsb": None}


@pytest.mark.parametrize("name", REAL)
def test_real_data_comes_back_as_it_was(client, service, name):
    folder = data_folder()
    if folder is None or not (folder / name).is_dir():
        pytest.skip(f"NAS_DATA names no folder with {name}")
    body = zip_of({path.name: path.read_bytes() for path in (folder / name).iterdir()})
    assert put(client, name, body, "data.zip").status_code == 201
    sent = load_data(str(folder / name), metric=REAL[name], seed=0)
    kept = load_data(str(upload_folder(service, "dataset", name)), metric=REAL[name], seed=0)
    assert (kept.digest, kept.task) == (sent.digest, sent.task)


def test_real_texts_come_back_as_they_were(client, service):
    folder = data_folder()
    if folder is None or not (folder / "wikitext2").is_dir():
        pytest.skip("NAS_DATA names no folder with wikitext2")
    body = (folder / "wikitext2" / "train.parquet").read_bytes()
    assert put(client, "wiki", body, "train.parquet").json()["labels"] is None
    assert load_texts(str(upload_folder(service, "dataset", "wiki"))) == load_texts(
        str(folder / "wikitext2")
    )


# What a crash leaves


@on_both
def test_a_collection_removes_what_crashes_left_a_day_ago(client, service):
    put(client, "reviews", GOOD)
    put(client, "lost", GOOD)
    os.rename(upload_folder(service, "dataset", "lost"), service.folder("datasets") / "orphan")
    half = service.folder("uploads") / "0123" / "kept"
    half.mkdir(parents=True)
    (half / "train.parquet").write_bytes(b"PAR1")
    collected = collect(service.settings, service.engine, dry_run=True)
    assert (collected.leftovers, collected.rows) == ((), {"uploads": 1})
    assert find_upload(service.engine, "dataset", "lost") is not None
    for left in (service.folder("uploads"), service.folder("datasets")):
        for path in (*left.rglob("*"), left):
            os.utime(path, (time.time() - 90_000,) * 2)
    with begin_arrival(service) as arriving:
        collected = collect(service.settings, service.engine)
        assert Path(arriving).exists()
    assert set(collected.leftovers) == {"uploads/0123", "datasets/orphan"}
    assert collected.rows == {"uploads": 1}
    assert files(service) == ["datasets/reviews/train.parquet"]
    assert find_upload(service.engine, "dataset", "lost") is None
    assert [item["name"] for item in client.get("/v1/datasets").json()["items"]] == ["reviews"]


def test_a_folder_without_a_row_makes_way(client, service):
    left = service.folder("datasets") / "reviews"
    left.mkdir()
    (left / "test.parquet").write_bytes(b"left by a crash")
    assert put(client, "reviews", GOOD).status_code == 201
    assert files(service) == ["datasets/reviews/train.parquet"]


def test_one_that_is_not_there_is_not_found(service):
    with pytest.raises(NasError, match="no uploaded dataset 'reviews'"):
        upload_folder(service, "dataset", "reviews")


# Supernets

CONFIG = BertConfig(
    hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, vocab_size=40,
    max_position_embeddings=16, id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1},
)  # fmt: skip


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a small supernet."""
    folder = tmp_path_factory.mktemp("supernet")
    torch.manual_seed(0)
    Supernet(BertForSequenceClassification(CONFIG)).save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_supernet_is_kept_and_loads(client, service, parts):
    body = zip_of(parts | {"vocab.txt": b"[PAD]\n", "tokenizer_config.json": b"{}"})
    made = put(client, "small", body, "supernet.zip", "supernets")
    assert made.status_code == 201
    record = made.json()
    kept = Supernet.from_pretrained(upload_folder(service, "supernet", "small"))
    assert Architecture.from_dict(record["architecture"]) == kept.largest
    assert record["parameters"] == sum(one.numel() for one in kept.parameters())
    assert record["labels"] == ["bad", "good"]
    assert files(service) == ["supernets/small/config.json", "supernets/small/model.safetensors"]
    assert (upload_folder(service, "supernet", "small") / "model.safetensors").read_bytes() == (
        parts["model.safetensors"]
    )
    assert client.get("/v1/supernets").json()["items"] == [record]
    refused = put(client, "odd", zip_of(parts | {"run.py": b"1"}), "supernet.zip", "supernets")
    assert refused.status_code == 422
    assert client.delete("/v1/supernets/small").status_code == 204
    assert files(service) == []


def changed(parts: dict[str, bytes], **values: Any) -> dict[str, bytes]:
    config = json.loads(parts["config.json"]) | values
    return parts | {"config.json": json.dumps(config).encode()}


def tensors(**values: torch.Tensor) -> bytes:
    torch.manual_seed(0)
    state = BertForSequenceClassification(CONFIG).state_dict()
    return save({name: value.contiguous() for name, value in (state | values).items()})


def wrapped(weights: bytes) -> bytes:
    return save({f"module.{name}": tensor for name, tensor in load(weights).items()})


WEIGHTS = "model.safetensors"
BAD_SUPERNETS: dict[str, tuple[Any, str]] = {
    "no weights": (lambda parts: {"config.json": parts["config.json"]}, "a supernet is"),
    "pickled": (lambda parts: parts | {"pytorch_model.bin": b"1"}, "accepted are"),
    "code": (lambda parts: parts | {"modeling.py": b"1"}, "accepted are"),
    "auto_map": (lambda parts: changed(parts, auto_map={"AutoModel": "evil--m.M"}), "auto_map"),
    "kernel": (lambda parts: changed(parts, _attn_implementation="evil/kernel"), "_attn_impl"),
    "other model": (lambda parts: changed(parts, model_type="gpt2"), "model_type"),
    "huge": (lambda parts: changed(parts, num_hidden_layers=10**9), "num_hidden_layers"),
    "wider": (lambda parts: changed(parts, hidden_size=16), "parameters, config.json describes"),
    "heads": (lambda parts: changed(parts, num_attention_heads=3), "not a multiple"),
    "a direction override": (
        lambda parts: changed(
            parts, id2label={"0": "a", "1": "\u202eb"}, label2id={"a": 0, "\u202eb": 1}
        ),
        r"holds U\+202E",
    ),
    "labels": (lambda parts: changed(parts, id2label={"0": "a", "2": "b"}), "id2label"),
    "no JSON": (lambda parts: parts | {"config.json": b"{"}, "not JSON"),
    "pickle as weights": (
        lambda parts: parts | {WEIGHTS: b"\x80\x04K\x01." * 9},
        "states a header",
    ),
    "cut weights": (lambda parts: parts | {WEIGHTS: parts[WEIGHTS][:-8]}, "no sound safetensors"),
    "half precision": (
        lambda parts: parts | {WEIGHTS: tensors(**{"classifier.bias": torch.zeros(2).half()})},
        "is F16, not F32",
    ),
    "not finite": (
        lambda parts: (
            parts | {WEIGHTS: tensors(**{"classifier.bias": torch.tensor([0, torch.nan])})}
        ),
        "classifier.bias holds numbers that are not finite",
    ),
    "another name": (
        lambda parts: (
            parts | {WEIGHTS: parts[WEIGHTS].replace(b"classifier.bias", b"classifier.bies")}
        ),
        r"the file has no classifier\.bias, but classifier\.bies",
    ),
    "one tensor too many": (
        lambda parts: parts | {WEIGHTS: tensors(**{"cls.empty": torch.zeros(0)})},
        "does not fit config.json: 'cls.empty'",
    ),
    "a wrapper's names": (
        lambda parts: parts | {WEIGHTS: wrapped(parts[WEIGHTS])},
        "does not fit config.json: 'bert.embeddings",
    ),
    "another shape": (
        lambda parts: parts | {WEIGHTS: tensors(**{"classifier.weight": torch.zeros(8, 2)})},
        r"classifier\.weight is of shape \(8, 2\) in the file, and \(2, 8\) by config\.json",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD_SUPERNETS.values(), ids=BAD_SUPERNETS.keys())
def test_other_supernets_are_refused(tmp_path, monkeypatch, parts, change, message):
    monkeypatch.chdir(tmp_path)
    Path("given.zip").write_bytes(zip_of(change(parts)))
    with pytest.raises(NasError, match=message):
        check_supernet("given.zip", "small", unpacked_bytes=10_000_000)
