"""Uploads that are malformed, by family: what ``malformed_uploads.py`` sends.

Each is so by the way it is made or, where a flipped bit may do no harm, by a reader of its own that
refuses it.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from nas.service.uploads.sandbox import run_confined
from supernet.errors import NasError


@dataclass(frozen=True)
class Upload:
    """A request. ``cut`` closes the connection after so many bytes of the body."""

    body: bytes
    filename: str = "data.csv"
    kind: str = "datasets"
    name: str | None = None
    cut: int | None = None


Chance = random.Random
Family = Callable[[Chance], Upload]
FAMILIES: dict[str, Family] = {}
OF_TORCH = {"supernet: weights not finite", "supernet: other tensors"}


def family(name: str) -> Callable[[Family], Family]:
    def register(make: Family) -> Family:
        FAMILIES[name] = make
        return make

    return register


def words(chance: Chance) -> str:
    return " ".join(chance.choice(("well", "made", "it", "lasts", "poor", "broke", "ünïcode"))
                    for _ in range(chance.randint(3, 12)))  # fmt: skip


def rows(chance: Chance, most: int = 60) -> list[tuple[str, int]]:
    return [(words(chance), number % 2) for number in range(chance.randint(20, most))]


def csv_of(found: list[tuple[Any, Any]], header: str = "text,label") -> str:
    return "".join(f"{line}\n" for line in (header, *(f"{text},{label}" for text, label in found)))


def jsonl_of(found: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(one) + "\n" for one in found)


def objects(chance: Chance) -> list[dict[str, Any]]:
    return [{"text": text, "label": label} for text, label in rows(chance)]


def parquet_of(chance: Chance, **options: Any) -> bytes:
    found = [(f"{words(chance)} {chance.random()}", index % 2) for index in range(200)]
    table = pa.table({"text": [text for text, _ in found], "label": [one for _, one in found]})
    sink = io.BytesIO()
    compression = chance.choice(("snappy", "zstd", "none"))
    pq.write_table(table, sink, compression=compression, **options)
    return sink.getvalue()


def zip_of(members: list[tuple[str | zipfile.ZipInfo, bytes]]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members:
            zipped.writestr(name, content)
    return sink.getvalue()


def good_zip(chance: Chance) -> bytes:
    return zip_of([(f"{split}.csv", csv_of(rows(chance)).encode()) for split in ("train", "test")])


def unreadable(path: str) -> dict[str, bool]:
    """Whether a strict reader refuses a Parquet file; run confined, since it may crash."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            file.read().validate(full=True)
    except Exception:  # noqa: BLE001 - of many kinds
        return {"refused": True}
    return {"refused": False}


def flipped(chance: Chance, content: bytes, start: int, stop: int) -> bytes:
    """``content`` with some bits flipped between two places, so that it cannot be read."""
    while True:
        changed = bytearray(content)
        for _ in range(chance.randint(1, 8)):
            changed[chance.randrange(start, stop)] ^= 1 << chance.randrange(8)
        with TemporaryDirectory() as folder:
            (Path(folder) / "flipped.parquet").write_bytes(changed)
            try:
                answer = run_confined(unreadable, "flipped.parquet", folder=Path(folder))
            except NasError:  # the reader crashed, or wanted too much
                return bytes(changed)
        if answer["refused"]:
            return bytes(changed)


@family("Parquet: truncated")
def _(chance: Chance) -> Upload:
    content = parquet_of(chance)
    return Upload(content[: chance.randrange(1, len(content))], "data.parquet")


@family("Parquet: bits flipped in its pages")
def _(chance: Chance) -> Upload:
    content = parquet_of(chance, write_page_checksum=True)
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    return Upload(flipped(chance, content, 4, footer), "data.parquet")


@family("Parquet: bits flipped in its footer")
def _(chance: Chance) -> Upload:
    content = parquet_of(chance)
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    return Upload(flipped(chance, content, footer, len(content)), "data.parquet")


@family("Parquet: columns of other types")
def _(chance: Chance) -> Upload:
    other = chance.choice((
        [[1, 2]] * 30, [{"a": 1}] * 30, [b"\xff"] * 30, [None, *[[[1]]] * 29],
        pa.array([1] * 30, pa.timestamp("s")), pa.array([1] * 30, pa.decimal128(9, 2)),
    ))  # fmt: skip
    found = [words(chance) for _ in range(30)]
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": found, "label": [0, 1] * 15, words(chance): other}), sink)
    return Upload(sink.getvalue(), "data.parquet")


@family("Parquet: texts not UTF-8, infinite numbers, absent labels, too many rows")
def _(chance: Chance) -> Upload:
    count = 40
    texts: pa.Array = pa.array([words(chance) for _ in range(count)])
    labels: list[Any] = [number % 2 for number in range(count)]
    which = chance.randrange(4)
    if which == 0:
        texts = pa.array([chance.choice((b"\xff\xfe", b"\xed\xa0\x80", b"caf\xe9 !"))] * count,
                         pa.binary()).view(pa.string())  # fmt: skip
    elif which == 1:
        labels = [float(chance.choice(("inf", "-inf"))), *(0.5 * one for one in labels[1:])]
    elif which == 2:
        labels[chance.randrange(count)] = None
    else:
        count = 5_000_001 + chance.randrange(1000)
        texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), ["a text"])
        labels = pa.array(np.zeros(count, np.int8))
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts, "label": labels}), sink)
    return Upload(sink.getvalue(), "data.parquet")


@family("CSV: ragged")
def _(chance: Chance) -> Upload:
    lines = csv_of(rows(chance)).split("\n")[:-1]
    place = chance.randrange(1, len(lines))
    lines[place] = chance.choice((lines[place] + ",more", lines[place].split(",")[0], ",,,,"))
    return Upload("\n".join(lines).encode())


@family("CSV: a quote that is not closed, or within a cell")
def _(chance: Chance) -> Upload:
    lines = csv_of(rows(chance)).split("\n")[:-1]
    place = chance.randrange(1, len(lines))
    lines[place] = chance.choice(('"' + lines[place], '"some"times' + lines[place]))
    return Upload("\n".join(lines).encode())


@family("CSV: two columns of one name")
def _(chance: Chance) -> Upload:
    found = csv_of([(text, f"{label},again") for text, label in rows(chance)], "text,label,text")
    return Upload(found.encode())


@family("CSV: numbers beyond all bounds")
def _(chance: Chance) -> Upload:
    found: list[tuple[str, Any]] = list(rows(chance))
    huge = chance.choice(
        ("1e400", "-1e999", "inf", "-Infinity", "1" + "0" * 5000, "9" * 400 + ".5")
    )
    found[chance.randrange(len(found))] = (words(chance), huge)
    return Upload(csv_of(found).encode())


@family("latin-1, and other bytes that are not UTF-8")
def _(chance: Chance) -> Upload:
    found = [(f"caf{chance.choice('éèüß')} au lait", label) for _, label in rows(chance)]
    if chance.random() < 0.5:
        return Upload(csv_of(found).encode("latin-1"))
    text = json.dumps({"text": found[0][0], "label": 1}, ensure_ascii=False)
    return Upload(f"{text}\n".encode("latin-1") * 30, "data.jsonl")


@family("UTF-16 without a mark, UTF-32")
def _(chance: Chance) -> Upload:
    encoding = chance.choice(("utf-16-le", "utf-16-be", "utf-32-le", "utf-32", "utf-16"))
    if chance.random() < 0.5:
        return Upload(csv_of(rows(chance)).encode(encoding))
    return Upload(jsonl_of(objects(chance)).encode(encoding), "data.jsonl")


@family("NUL characters")
def _(chance: Chance) -> Upload:
    if chance.random() < 0.5:
        content = bytearray(csv_of(rows(chance)).encode())
        content.insert(chance.randrange(len(content)), 0)
        return Upload(bytes(content))
    found = objects(chance)
    found[chance.randrange(len(found))]["text"] = "a\0b"
    return Upload(jsonl_of(found).encode(), "data.jsonl")


@family("JSON: halves of surrogate pairs")
def _(chance: Chance) -> Upload:
    half = chance.choice(("\\ud800", "\\udfff", "\\udc00\\ud800", "\\uDBFF x"))
    lines = jsonl_of(objects(chance)).split("\n")[:-1]
    lines[chance.randrange(len(lines))] = f'{{"text": "a {half}", "label": 1}}'
    return Upload("\n".join(lines).encode(), "data.jsonl")


@family("JSON: numbers beyond all bounds")
def _(chance: Chance) -> Upload:
    huge = chance.choice(("1e400", "-1e400", "1" + "0" * 5000, "NaN", "Infinity", "-Infinity",
                          str(2**63), str(-(2**63) - 1), "1" * 4000))  # fmt: skip
    lines = jsonl_of(objects(chance)).split("\n")[:-1]
    lines[chance.randrange(len(lines))] = f'{{"text": "a", "label": {huge}}}'
    return Upload("\n".join(lines).encode(), "data.jsonl")


@family("JSON: nested, thousands deep or by one")
def _(chance: Chance) -> Upload:
    depth = chance.choice((1, 2, 100, 5000, 100_000))
    opening, closing = chance.choice((("[", "]"), ('{"a":', "}")))
    inner = "1" if opening == '{"a":' else ""
    lines = jsonl_of(objects(chance)).split("\n")[:-1]
    lines[chance.randrange(len(lines))] = (
        f'{{"text": "a", "label": 1, "x": {opening * depth}{inner}{closing * depth}}}'
    )
    return Upload("\n".join(lines).encode(), "data.jsonl")


@family("JSON: lines that are no objects, cut, or with a key twice")
def _(chance: Chance) -> Upload:
    lines = jsonl_of(objects(chance)).split("\n")[:-1]
    place = chance.randrange(len(lines))
    lines[place] = chance.choice((
        "[]", "1", "null", '"text"', "{", lines[place][: chance.randrange(1, len(lines[place]))],
        '{"text": "a", "text": "b", "label": 1}', "{'text': 'a', 'label': 1}",
        lines[place] + lines[place],
    ))  # fmt: skip
    return Upload("\n".join(lines).encode(), "data.jsonl")


@family("100,000 columns")
def _(chance: Chance) -> Upload:
    count = 100_000 + chance.randrange(1000)
    if chance.random() < 0.5:
        return Upload(
            (",".join(f"c{i}" for i in range(count)) + "\n" + "1," * (count - 1)).encode()
        )
    return Upload(json.dumps({f"c{index}": 1 for index in range(count)}).encode(), "data.jsonl")


@family("enormous cells and lines")
def _(chance: Chance) -> Upload:
    text = chance.choice("xyz") * chance.randint(1_000_001, 4_500_000)
    if chance.random() < 0.5:
        return Upload(csv_of([*rows(chance), (text, 1)]).encode())
    return Upload(jsonl_of([*objects(chance), {"text": text, "label": 0}]).encode(), "data.jsonl")


@family("empty, or a header alone")
def _(chance: Chance) -> Upload:
    suffix = chance.choice(("csv", "jsonl", "parquet", "zip"))
    body = chance.choice((b"", b"\n" * chance.randint(1, 9), b" ", b"\xef\xbb\xbf"))
    if suffix == "csv" and chance.random() < 0.5:
        body = b"text,label\n"
    return Upload(body, f"data.{suffix}")


@family("another suffix than the content's")
def _(chance: Chance) -> Upload:
    contents = {
        "csv": csv_of(rows(chance)).encode(),
        "jsonl": jsonl_of(objects(chance)).encode(),
        "parquet": parquet_of(chance),
        "zip": good_zip(chance),
    }
    said, real = chance.sample(sorted(contents), 2)
    return Upload(contents[real], f"data.{said}")


@family("noise")
def _(chance: Chance) -> Upload:
    suffix = chance.choice(("csv", "jsonl", "parquet", "zip"))
    magic = {"parquet": b"PAR1", "zip": b"PK\x03\x04"}.get(suffix, b"\xff")
    return Upload(magic + chance.randbytes(chance.randint(50, 5000)), f"data.{suffix}")


@family("labels absent, mixed, all the same, or new in test")
def _(chance: Chance) -> Upload:
    found = objects(chance)
    which = chance.randrange(4)
    if which == 0:
        found[chance.randrange(len(found))]["label"] = None
    elif which == 1:
        found[chance.randrange(len(found))]["label"] = "one"
    elif which == 2:
        found = [one | {"label": 7} for one in found]
    else:
        members = [("train.jsonl", jsonl_of([one | {"label": str(one["label"])} for one in found])),
                   ("test.jsonl", jsonl_of([{"text": "a", "label": "2"}]))]  # fmt: skip
        return Upload(zip_of([(name, text.encode()) for name, text in members]), "data.zip")
    return Upload(jsonl_of(found).encode(), "data.jsonl")


@cache
def zeros(megabytes: int) -> bytes:
    return zip_of([("train.csv", b"text,label\n" + b"a,1\n" * (megabytes << 18))])


@family("zip: a bomb, flat")
def _(chance: Chance) -> Upload:
    return Upload(zeros(chance.choice((16, 64, 256))), "data.zip")


@family("zip: a bomb, nested")
def _(chance: Chance) -> Upload:
    content = zeros(16)
    inner = chance.choice(("train.zip", "train.csv", "train.parquet"))
    for _ in range(chance.randint(1, 3)):
        content = zip_of([(inner, content)])
    return Upload(content, "data.zip")


@family("zip: a bomb, of overlapping entries")
def _(chance: Chance) -> Upload:
    """Central entries that share one local file, as David Fifield's bombs do."""
    content = good_zip(chance)
    place = content.index(b"PK\x01\x02")
    first = content[place : content.index(b"PK\x01\x02", place + 4)]
    count = chance.randint(2, 60)
    entries = b"".join(first.replace(b"train.csv", f"trai{index:03}cs"[:9].encode()[:5] + b".csv")
                       if chance.random() < 0.5 else first for index in range(count))  # fmt: skip
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(entries), place, 0)
    return Upload(content[:place] + entries + end, "data.zip")


@family("zip: names that lead elsewhere")
def _(chance: Chance) -> Upload:
    bad = chance.choice((
        "../train.csv", "/train.csv", "/etc/cron.d/train.csv", "a/../../train.csv", "a/b/train.csv",
        "C:\\train.csv", "..\\train.csv", "./train.csv", "a//train.csv", "~/train.csv", ".csv",
        "train.csv/", "tr\nain.csv", "train.csv\x01.csv", "-rf.csv", " .csv", "x" * 300 + ".csv",
    ))  # fmt: skip
    members: list[tuple[str | zipfile.ZipInfo, bytes]] = [(bad, csv_of(rows(chance)).encode())]
    if chance.random() < 0.5:
        members.append(("train.jsonl", jsonl_of(objects(chance)).encode()))
    return Upload(zip_of(members), "data.zip")


@family("zip: links, devices and other entries that are no files")
def _(chance: Chance) -> Upload:
    entry = zipfile.ZipInfo(chance.choice(("test.csv", "valid.csv")))
    kind = chance.choice((0o120777, 0o020666, 0o060666, 0o010666, 0o140777, 0o040755))
    entry.external_attr, entry.create_system = kind << 16, 3
    return Upload(
        zip_of([("train.csv", csv_of(rows(chance)).encode()), (entry, b"/etc/passwd")]), "data.zip"
    )


@family("zip: one name twice")
def _(chance: Chance) -> Upload:
    content = csv_of(rows(chance)).encode()
    pair = chance.choice((("train.csv", "train.csv"), ("train.csv", "TRAIN.csv"),
                          ("train.csv", "ﬂ.csv", "fl.csv"),
                          ("a/train.csv", "A/train.csv")))  # fmt: skip
    return Upload(zip_of([(name, content) for name in pair]), "data.zip")


@family("zip: wrong checksum")
def _(chance: Chance) -> Upload:
    content = bytearray(good_zip(chance))
    wrong = chance.randbytes(4)
    place = content.index(b"PK\x01\x02")
    if content[14:18] == wrong:
        wrong = bytes(4)
    content[14:18] = content[place + 16 : place + 20] = wrong
    return Upload(bytes(content), "data.zip")


@family("zip: encrypted, or packed by another method")
def _(chance: Chance) -> Upload:
    content = bytearray(good_zip(chance))
    place = content.index(b"PK\x01\x02")
    if chance.random() < 0.5:
        content[6] |= 1
        content[place + 8] |= 1
    else:
        content[8] = content[place + 10] = chance.choice((1, 6, 12, 14, 93, 98, 99))
    return Upload(bytes(content), "data.zip")


@family("zip: lying sizes")
def _(chance: Chance) -> Upload:
    content = bytearray(good_zip(chance))
    place = content.index(b"PK\x01\x02") + chance.choice((20, 24))
    stated = int.from_bytes(content[place : place + 4], "little")
    wrong = chance.choice((0, 1, stated - 1, stated + 1, stated * 2, 0xFFFFFFFE, 0xFFFFFFFF))
    content[place : place + 4] = struct.pack("<L", wrong)
    return Upload(bytes(content), "data.zip")


@family("zip: truncated")
def _(chance: Chance) -> Upload:
    content = good_zip(chance)
    return Upload(content[: chance.randrange(1, len(content))], "data.zip")


@family("zip: with something before, behind or between")
def _(chance: Chance) -> Upload:
    content = good_zip(chance)
    other = chance.choice((b"GIF89a", b"<html></html>", b"%PDF-1.7\n", b"#!/bin/sh\n", b"MZ",
                           parquet_of(chance), chance.randbytes(40)))  # fmt: skip
    place = content.index(b"PK\x01\x02")
    return Upload(chance.choice((other + content, content + other,
                                 content[:place] + other + content[place:],
                                 other + content + other)), "data.zip")  # fmt: skip


@family("zip: too many files, other files, or no split")
def _(chance: Chance) -> Upload:
    content = csv_of(rows(chance)).encode()
    names = chance.choice((
        [f"train-{number:05}-of-00500.csv" for number in range(chance.randint(101, 500))],
        ["train.csv", chance.choice(("run.sh", "data.pkl", "train.exe", "a.py", "train.csv.gz"))],
        ["first.csv", "second.csv"], ["train.csv", "training.csv"], ["all.csv", "test.csv"],
        ["test.csv", "validation.csv"], [],
    ))  # fmt: skip
    return Upload(zip_of([(name, content) for name in names]), "data.zip")


@family("a file that is two at once")
def _(chance: Chance) -> Upload:
    table, zipped = parquet_of(chance), good_zip(chance)
    lines = csv_of(rows(chance)).encode()
    return chance.choice((
        Upload(table + zipped, "data.parquet"), Upload(table + zipped, "data.zip"),
        Upload(lines + zipped, "data.zip"), Upload(lines + zipped, "data.csv"),
        Upload(zipped + table, "data.zip"), Upload(b"PAR1" + lines + b"PAR1", "data.parquet"),
    ))  # fmt: skip


@family("names that are not accepted")
def _(chance: Chance) -> Upload:
    name = chance.choice(("Upper", "..", "-a", "a-", "a%00b", "%2e%2e%2fetc", "a%2fb", "x" * 64,
                          "ü", "a b", ".hidden", "a%0a", "%F0%9F%98%80", "pydoc"))  # fmt: skip
    return Upload(csv_of(rows(chance)).encode(), name=name)


@family("filenames that are not accepted")
def _(chance: Chance) -> Upload:
    filename = chance.choice((
        "", "csv", ".csv", "../data.csv", "/etc/passwd.csv", "data.CSV", "data.csv\0", "data.csv\n",
        "data.csv/..", "data.xlsx", "data.csv.gz", "data", "a" * 200 + ".csv", "~data.csv",
        "dätä.csv", "a\\b.csv", "data.pkl", "data.csv;data.zip",
    ))  # fmt: skip
    return Upload(csv_of(rows(chance)).encode(), filename)


@family("a connection that ends within the body")
def _(chance: Chance) -> Upload:
    body = csv_of(rows(chance)).encode() * chance.randint(1, 400)
    return Upload(body, cut=chance.randrange(len(body)))


# ---- supernets -----------------------------------------------------------------------------------

CONFIG = {
    "architectures": ["BertForSequenceClassification"], "model_type": "bert", "hidden_size": 8,
    "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 50,
    "max_position_embeddings": 16,
}  # fmt: skip


def tensors(chance: Chance) -> dict[str, np.ndarray[Any, Any]]:
    """Of all names and shapes that :data:`CONFIG` asks for."""
    shapes: dict[str, tuple[int, ...]] = {
        "bert.embeddings.word_embeddings.weight": (50, 8),
        "bert.embeddings.position_embeddings.weight": (16, 8),
        "bert.embeddings.token_type_embeddings.weight": (2, 8),
        "bert.embeddings.LayerNorm.weight": (8,), "bert.embeddings.LayerNorm.bias": (8,),
        "bert.pooler.dense.weight": (8, 8), "bert.pooler.dense.bias": (8,),
        "classifier.weight": (2, 8), "classifier.bias": (2,),
    }  # fmt: skip
    layer = "bert.encoder.layer.0."
    for module, rows_, columns in (
        ("attention.self.query", 8, 8), ("attention.self.key", 8, 8),
        ("attention.self.value", 8, 8), ("attention.output.dense", 8, 8),
        ("intermediate.dense", 16, 8), ("output.dense", 8, 16),
    ):  # fmt: skip
        shapes |= {f"{layer}{module}.weight": (rows_, columns), f"{layer}{module}.bias": (rows_,)}
    for module in ("attention.output.LayerNorm", "output.LayerNorm"):
        shapes |= {f"{layer}{module}.weight": (8,), f"{layer}{module}.bias": (8,)}
    rng = np.random.default_rng(chance.randrange(2**32))
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def supernet(
    weights: bytes, config: Any = CONFIG, more: tuple[tuple[str, bytes], ...] = ()
) -> Upload:
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    members = [("config.json", text), ("model.safetensors", weights), *more]
    return Upload(zip_of(list(members)), "supernet.zip", "supernets")


@family("supernet: safetensors whose header lies")
def _(chance: Chance) -> Upload:
    content = save(tensors(chance))
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    which = chance.randrange(6)
    if which == 0:
        wrong = chance.choice((0, 1, length - 3, length + 1000, 2**63, 2**64 - 1, 100_000_001))
        return supernet(wrong.to_bytes(8, "little") + content[8:])
    if which == 1:
        return supernet(content[: chance.randrange(len(content))])
    if which == 2:
        return supernet(content + chance.randbytes(chance.randint(1, 100)))
    one = header[chance.choice(sorted(set(header) - {"__metadata__"}))]
    if which == 3:
        one["data_offsets"][1] += chance.choice((4, -4, 2**40))
    elif which == 4:
        one["shape"] = [chance.choice((2**62, 3, 0)), *one["shape"]]
    else:
        one["dtype"] = chance.choice(("F64", "I8", "F7", "PICKLE", 3))
    text = json.dumps(header).encode()
    return supernet(len(text).to_bytes(8, "little") + text + content[8 + length :])


@family("supernet: a pickle by another name")
def _(chance: Chance) -> Upload:
    content = pickle.dumps({"weights": [chance.random()] * 9}, chance.randrange(6))
    if chance.random() < 0.5:
        content = zip_of([("archive/data.pkl", content)])
    return supernet(content)


@family("supernet: a configuration that names code or other weights")
def _(chance: Chance) -> Upload:
    more: dict[str, Any] = chance.choice((
        {"auto_map": {"AutoModelForSequenceClassification": "evil--evil.Model"}},
        {"auto_map": {}}, {"quantization_config": {"quant_method": "bitsandbytes"}},
        {"_attn_implementation": "evil/kernel"}, {"architectures": ["EvilModel"]},
        {"model_type": "gpt2"}, {"_name_or_path": "http://evil/"}, {"custom_pipelines": {}},
        {"attn_implementation": "evil/kernel"}, {"is_decoder": True}, {"use_kernels": True},
    ))  # fmt: skip
    return supernet(save(tensors(chance)), CONFIG | more)


@family("supernet: a configuration out of bounds, or no JSON")
def _(chance: Chance) -> Upload:
    config: Any = CONFIG | chance.choice((
        {"hidden_size": 2**40}, {"hidden_size": -8}, {"num_hidden_layers": 10**9},
        {"num_attention_heads": 3}, {"num_attention_heads": 0}, {"vocab_size": "50"},
        {"vocab_size": 51}, {"hidden_size": 8.0}, {"layer_norm_eps": 1e300}, {"hidden_act": "evil"},
        {"id2label": {"0": "a"}}, {"id2label": {"0": "a", "2": "b"}}, {"id2label": {"0": 1}},
        {"label2id": {"a": 0}}, {"pad_token_id": -1}, {"intermediate_size": None},
    ))  # fmt: skip
    if chance.random() < 0.3:
        text = json.dumps(CONFIG)
        config = chance.choice((
            text[:-1], text.replace("8", "1e400", 1), f"[{text}]", "[" * 100_000, "", "null",
            text.replace('"bert"', '"bert", "model_type": "bert"'), text.replace("16", "NaN", 1),
            '{"a":' * 5000 + "1" + "}" * 5000, text + text,
        )).encode()  # fmt: skip
    return supernet(save(tensors(chance)), config)


@family("supernet: files missing or of other kinds")
def _(chance: Chance) -> Upload:
    content = save(tensors(chance))
    text = json.dumps(CONFIG).encode()
    members = chance.choice((
        [("config.json", text)], [("model.safetensors", content)],
        [("config.json", text), ("pytorch_model.bin", content)],
        [("config.json", text), ("model.safetensors", content), ("modeling_evil.py", b"1")],
        [("config.json", text), ("model.safetensors", content), ("evil.json", b"{}")],
        [("config.json", text), ("model-00001-of-00002.safetensors", content)],
        [("config.json", text), ("a/model.safetensors", content)],
        [("config.json", text), ("model.safetensors", content), ("notes.txt", b"1")],
    ))  # fmt: skip
    return Upload(zip_of(list(members)), "supernet.zip", "supernets")


@family("supernet: weights not finite")
def _(chance: Chance) -> Upload:
    found = tensors(chance)
    array = found[chance.choice(sorted(found))]
    array.reshape(-1)[chance.randrange(array.size)] = chance.choice((np.nan, np.inf, -np.inf))
    return supernet(save(found))


@family("supernet: other tensors")
def _(chance: Chance) -> Upload:
    found = tensors(chance)
    name = chance.choice(sorted(found))
    array = found.pop(name)
    if chance.random() < 0.5 and array.ndim == 2 and array.shape[0] != array.shape[1]:
        found[name] = np.ascontiguousarray(array.T)
    else:
        found[f"other.{name}"] = array
    return supernet(save(found))
