"""The page: ``/`` and the files that it loads, none of them from elsewhere."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Header, Response

from nas.service.api.operation_ids import by_name
from nas.service.api.problems import ProblemError

router = APIRouter(include_in_schema=False, generate_unique_id_function=by_name)


_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_PLOTLY = "plotly.min.js"

IfNoneMatch = Annotated[str, Header(alias="If-None-Match")]
AcceptEncoding = Annotated[str, Header(alias="Accept-Encoding")]


@dataclass(frozen=True)
class Asset:
    """A file of the page, as it is sent.

    Args:
        tag: its ETag, the same for both encodings and therefore weak.
    """

    media_type: str
    plain: bytes
    compressed: bytes
    tag: str


@router.api_route("/", methods=["GET", "HEAD"])
def index(if_none_match: IfNoneMatch = "", accept_encoding: AcceptEncoding = "") -> Response:
    """The page."""
    return _answer(read_asset("index.html"), if_none_match, accept_encoding)


@router.api_route("/assets/{file}", methods=["GET", "HEAD"])
def asset(
    file: str, if_none_match: IfNoneMatch = "", accept_encoding: AcceptEncoding = ""
) -> Response:
    """A file that the page loads."""
    if file not in asset_names():
        raise ProblemError(404, f"the page has no file {file[:80]!r}")
    return _answer(read_asset(file), if_none_match, accept_encoding)


@cache
def asset_names() -> frozenset[str]:
    """What ``/assets/`` holds: the folder of the page, and plotly.js."""
    own = (entry.name for entry in files("nas.service").joinpath("page").iterdir())
    return frozenset(own) - {"index.html"} | {_PLOTLY}


@cache
def read_asset(name: str) -> Asset:
    """One of the page's files, compressed once: plotly.js alone has megabytes."""
    folder = (
        files("plotly").joinpath("package_data")
        if name == _PLOTLY
        else files("nas.service").joinpath("page")
    )
    plain = folder.joinpath(name).read_bytes()
    return Asset(
        media_type=_TYPES[name.rpartition(".")[2]],
        plain=plain,
        compressed=gzip.compress(plain, mtime=0),
        tag=f'W/"{hashlib.sha256(plain).hexdigest()[:32]}"',
    )


def _answer(found: Asset, if_none_match: str, accept_encoding: str) -> Response:
    """A file, or that the browser's copy still holds: it asks each time, so none is stale."""
    headers = {
        "ETag": found.tag,
        "Cache-Control": "no-cache",
        "Vary": "Accept-Encoding",
    }
    if found.tag in (known.strip() for known in if_none_match.split(",")):
        return Response(status_code=304, headers=headers)
    if not _accepts_gzip(accept_encoding):
        return Response(found.plain, headers=headers, media_type=found.media_type)
    headers["Content-Encoding"] = "gzip"
    return Response(found.compressed, headers=headers, media_type=found.media_type)


def _accepts_gzip(accept_encoding: str) -> bool:
    codings = (coding.replace(" ", "").lower() for coding in accept_encoding.split(","))
    return any(coding.startswith("gzip") and coding != "gzip;q=0" for coding in codings)
