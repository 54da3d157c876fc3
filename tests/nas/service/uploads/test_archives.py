"""Zip archives: what is unpacked, and what is refused."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.service.uploads.archives import ArchiveLimits, unpack
from supernet.errors import NasError

SUFFIXES = (".csv",)
LIMITS = ArchiveLimits(unpacked_bytes=10_000_000, files=3)
ROWS = b"text,label\n" + b"well made,1\nbroke,0\n" * 20


def zip_of(
    *members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as zipped:
        for name, content in members:
            zipped.writestr(name, content)
    return sink.getvalue()


def unpacked(folder: Path, content: bytes) -> dict[str, bytes]:
    archive = folder / "given.zip"
    archive.write_bytes(content)
    return {
        path.name: path.read_bytes() for path in unpack(archive, folder / "files", SUFFIXES, LIMITS)
    }


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def streamed() -> bytes:
    """As tools write that cannot seek: sizes behind the data."""

    class Pipe(io.BytesIO):
        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

    sink = Pipe()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("train.csv", ROWS)
        zipped.writestr("test.csv", ROWS)
    return sink.getvalue()


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


def patched(content: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """With ``value`` at an offset from the first header of a kind."""
    place = content.index(signature) + offset
    return content[:place] + value + content[place + len(value) :]


def with_further_name(name: bytes) -> bytes:
    """An entry train.csv whose extra field, of Info-ZIP's kind, says what it is called too."""
    info = zipfile.ZipInfo("train.csv")
    stated = struct.pack("<BL", 1, zlib.crc32(b"train.csv")) + name
    info.extra = struct.pack("<HH", 0x7075, len(stated)) + stated
    return zip_of((info, ROWS))


NAMED_TWICE = with_further_name(b"train.csv")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (zip_of(("train.csv", ROWS)), ["train.csv"]),
        (zip_of(("train.csv", ROWS), method=zipfile.ZIP_STORED), ["train.csv"]),
        (
            zip_of(("my data/train.csv", ROWS), ("my data/test.csv", ROWS)),
            ["train.csv", "test.csv"],
        ),
        (zip_of((entry("data/", 0o040755), b""), ("data/all.csv", ROWS)), ["all.csv"]),
        (streamed(), ["train.csv", "test.csv"]),
        (
            patched(streamed(), LOCAL, 22, struct.pack("<L", len(ROWS))),
            ["train.csv", "test.csv"],
        ),
        (
            patched(zip_of(("train.csv", ROWS)), CENTRAL, 8, b"\x02"),  # how well it is deflated
            ["train.csv"],
        ),
        (NAMED_TWICE, ["train.csv"]),
    ],
    ids=[
        "deflated",
        "stored",
        "in a folder",
        "with the folder",
        "streamed",
        "by Info-ZIP to a pipe",
        "deflated well",
        "with its name again",
    ],
)
def test_plain_archives_are_unpacked(tmp_path, content, names):
    assert unpacked(tmp_path, content) == dict.fromkeys(names, ROWS)


GOOD = zip_of(("train.csv", ROWS))
TWO = zip_of(("train.csv", ROWS), ("tests.csv", ROWS))


def overlapping() -> bytes:
    """Two names for one entry's bytes."""
    start, end = GOOD.index(CENTRAL), GOOD.index(b"PK\x05\x06")
    first = GOOD[start:end]
    entries = first + first.replace(b"train.csv", b"tests.csv")
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, len(entries), start, 0)
    return GOOD[:start] + entries + tail


REFUSED = {
    "not a zip": (b"text,label\n", "no zip archive"),
    "empty": (b"", "no zip archive"),
    "without files": (zip_of(), "no zip archive"),
    "cut": (GOOD[:-30], "must end where"),
    "leads up": (zip_of(("../train.csv", ROWS)), "names are of"),
    "absolute": (zip_of(("/train.csv", ROWS)), "names are of"),
    "of Windows": (zip_of(("C:\\train.csv", ROWS)), "names are of"),
    "deep": (zip_of(("a/b/train.csv", ROWS)), "names are of"),
    "control": (zip_of(("tr\nain.csv", ROWS)), "names are of"),
    "nul": (patched(GOOD, CENTRAL, 46, b"t\0ain.csv"), "names are of"),
    "two folders": (zip_of(("a/train.csv", ROWS), ("b/test.csv", ROWS)), "side by side"),
    "link": (zip_of((entry("train.csv", 0o120777), b"/etc/passwd")), "neither a plain file"),
    "device": (zip_of((entry("train.csv", 0o020666), b"")), "neither a plain file"),
    "other suffix": (zip_of(("train.exe", ROWS)), "accepted are .csv"),
    "twice": (zip_of(("train.csv", ROWS), ("Train.csv", ROWS)), "twice"),
    "nested": (zip_of(("train.csv", GOOD)), "archive itself"),
    "gzip within": (zip_of(("train.csv", b"\x1f\x8b\x08")), "archive itself"),
    "too many": (zip_of(*((f"{n}.csv", ROWS) for n in range(4))), "at most"),
    "far too many": (zip_of(*((f"{n}.csv", ROWS) for n in range(40))), "holds 40 entries"),
    "encrypted": (patched(GOOD, CENTRAL, 8, b"\x01"), "encrypted"),
    "bzip2": (zip_of(("train.csv", ROWS), method=zipfile.ZIP_BZIP2), "stored or deflated"),
    "wrong checksum": (
        patched(patched(GOOD, LOCAL, 14, b"\0\0\0\0"), CENTRAL, 16, b"\0\0\0\0"), "CRC",
    ),
    "two checksums": (patched(GOOD, CENTRAL, 16, b"\0\0\0\0"), "two ways"),
    "larger than it is": (
        patched(patched(GOOD, LOCAL, 22, b"\xff\xff\0\0"), CENTRAL, 24, b"\xff\xff\0\0"),
        "another size",
    ),
    "something before": (b"GIF89a" + GOOD, "no zip archive"),
    "something behind": (GOOD + b"<html>", "must end where"),
    "something between": (
        patched(TWO[: TWO.index(CENTRAL)] + b"hidden" + TWO[TWO.index(CENTRAL) :],
                b"PK\x05\x06", 16, struct.pack("<L", TWO.index(CENTRAL) + 6)), "belong to none",
    ),
    "encrypted before the data alone": (patched(GOOD, LOCAL, 6, b"\x01"), "encrypted"),
    "strongly encrypted before the data alone": (patched(GOOD, LOCAL, 6, b"\x40"), "encrypted"),
    "two names": (patched(GOOD, LOCAL, 30, b"b"), "its name in two ways"),
    "a third name": (with_further_name(b"other.csv"), "its name in two ways"),
    "two methods": (patched(GOOD, LOCAL, 8, b"\0"), "its method in two ways"),
    "two sizes": (patched(GOOD, LOCAL, 22, b"\1"), "its size in two ways"),
    "no size": (patched(GOOD, LOCAL, 22, bytes(4)), "its size in two ways"),
    "two packed sizes": (patched(GOOD, LOCAL, 18, b"\1"), "its packed size in two ways"),
    "a size beside what follows the data": (
        patched(streamed(), LOCAL, 22, b"\1"), "its size in two ways",
    ),
    "a name beside what follows the data": (patched(streamed(), LOCAL, 30, b"b"), "its name in"),
    "deferred before the data alone": (patched(GOOD, LOCAL, 6, b"\x08"), "its flags in two ways"),
    "deferred in the directory alone": (
        patched(GOOD, CENTRAL, 8, b"\x08"), "its flags in two ways",
    ),
    "another checksum behind the data": (
        patched(streamed(), b"PK\x07\x08", 4, bytes(4)), "does not follow",
    ),
    "two names of a folder": (
        patched(zip_of((entry("data/", 0o040755), b""), ("data/all.csv", ROWS)), LOCAL, 30, b"b"),
        "its name in two ways",
    ),
    "overlapping": (overlapping(), "does not follow"),
    "bomb": (zip_of(("train.csv", bytes(9_000_000))), "unfolds to more"),
    "more than fits": (zip_of(("a.csv", ROWS * 13_000), ("b.csv", ROWS * 13_000),
                              method=zipfile.ZIP_STORED), "unfolds to more"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_others_are_refused(tmp_path, content, message):
    with pytest.raises(NasError, match=message) as refused:
        unpacked(tmp_path, content)
    assert "\n" not in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


@settings(max_examples=60, deadline=None)
@given(content=st.sampled_from((TWO, streamed())), data=st.data(), value=st.integers(0, 255))
def test_a_changed_byte_never_changes_what_is_unpacked(tmp_path_factory, content, data, value):
    place = data.draw(st.integers(0, len(content) - 1), label="place")
    changed = content[:place] + bytes([value]) + content[place + 1 :]
    try:
        found = unpacked(tmp_path_factory.mktemp("changed"), changed)
    except NasError:
        return
    assert list(found.values()) == [ROWS, ROWS]
