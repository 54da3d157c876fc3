"""The page: ``/`` and the files that it loads, none of them from elsewhere."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from nas.service.api.downloads import is_known
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
def index(request: Request) -> Response:
    """The page."""
    return _answer(read_asset("index.html"), request)


@router.api_route("/assets/{file}", methods=["GET", "HEAD"])
def asset(file: str, request: Request) -> Response:
    """A file that the page loads."""
    if file not in asset_names():
        raise ProblemError(404, f"the page has no file {file[:80]!r}")
    return _answer(read_asset(file), request)


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


def _answer(found: Asset, request: Request) -> Response:
    """A file, or that the browser's copy still holds: it asks each time, so none is stale."""
    headers = {
        "ETag": found.tag,
        "Cache-Control": "no-cache",
        "Vary": "Accept-Encoding",
    }
    if is_known(request, found.tag):
        return Response(status_code=304, headers=headers)
    if not _accepts_gzip(request.headers.get("Accept-Encoding", "")):
        return Response(found.plain, headers=headers, media_type=found.media_type)
    headers["Content-Encoding"] = "gzip"
    return Response(found.compressed, headers=headers, media_type=found.media_type)


def _accepts_gzip(accept_encoding: str) -> bool:
    codings = (coding.replace(" ", "").lower() for coding in accept_encoding.split(","))
    return any(coding.startswith("gzip") and coding != "gzip;q=0" for coding in codings)
