"""A client of the service: searches submitted, followed and fetched over HTTP."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from latency.connection import AwayError, Connection, Patience, RefusedError
from nas.service.client.download import Shown, receive, sha256, unpack
from nas.service.client.event_stream import END, StreamEvent, read_events
from nas.service.client.folder_upload import zipped
from nas.service.client.replies import Archive, Model, Search, Status, understood
from nas.service.uploads.scan import UPLOADED as TABLES
from nas.service.uploads.teachers import FILES, WEIGHTS
from nas.store.full_disk import full_disk_reported
from nas.store.result_folder import check_output, replacing_folder
from supernet.errors import NasError

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, *[30.0] * 18)
"""Between attempts to go on with what was under way: ten minutes in all."""

_SENT_AGAIN = 2  # times, of a request that is short
_UPLOAD_S = 600.0  # the server reads what it has received before it answers


class ServiceClient:
    """Talks to one service. Every failure is a :class:`NasError` of one line.

    Args:
        url: such as ``https://nas.example.org``.
        token: where the service asks for one.
        waits_s: between attempts to go on with a stream or a download that was interrupted.

    Raises:
        NasError: an address that is not of HTTP.

    Example:
        ::

            with ServiceClient("http://127.0.0.1:8765") as client:
                search = client.create_search({"budgets": ["4x"], "recipe": "quick"})
                for event in client.events(search.id):
                    print(event.kind, event.data)
                client.fetch(search.id, 0, Path("fast-model"))
    """

    def __init__(
        self, url: str, token: str | None = None, *, waits_s: Sequence[float] = WAITS_S
    ) -> None:
        self._server, self._waits_s = Connection(url, token), tuple(waits_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__()

    def create_search(self, request: Mapping[str, Any], key: str | None = None) -> Search:
        """Submit a search.

        Args:
            request: as docs/http.md lists its keys.
            key: of the submission; the same one again, within or after this call, makes no second
                search. By default one of its own.
        """
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        made = self._json("POST", "/v1/searches", json=dict(request), headers=headers)
        return understood(Search, made)

    def search(self, search_id: str) -> Search:
        """A search as it stands."""
        return understood(Search, self._json("GET", f"/v1/searches/{search_id}"))

    def searches(self, status: Status | None = None, owner: str | None = None) -> Iterator[Search]:
        """Searches, newest first; pages are asked for as they are needed."""
        asked = {"status": status, "owner": owner, "cursor": None}
        while True:
            given = {name: value for name, value in asked.items() if value is not None}
            page = self._json("GET", "/v1/searches", params=given)
            yield from (understood(Search, item) for item in page["items"])
            if page["next"] is None:
                return
            asked["cursor"] = page["next"]

    def cancel(self, search_id: str) -> Search:
        """Have a search stop, within seconds."""
        return understood(Search, self._json("POST", f"/v1/searches/{search_id}:cancel"))

    def retry(self, search_id: str) -> Search:
        """Run a search again that failed or was cancelled; finished stages are reused."""
        return understood(Search, self._server.json("POST", f"/v1/searches/{search_id}:retry"))

    def model(self, search_id: str, number: int) -> Model:
        """A model of a search that is done, from 0."""
        return understood(Model, self._json("GET", f"/v1/searches/{search_id}/models/{number}"))

    def events(
        self, search_id: str, after: int = 0, lost: Callable[[str], None] = lambda _: None
    ) -> Iterator[StreamEvent]:
        """What happens in a search, up to its ``end``; a lost connection is taken up again.

        Args:
            after: the number of the last event that is known.
            lost: receives a line at each loss.

        Raises:
            NasError: no such search, or a server that stays away.
        """
        patience = Patience(self._waits_s)
        while True:
            headers = {"Last-Event-ID": str(after)} if after else {}
            away = AwayError(f"server {self._server.url} ended the stream of events early")
            try:
                path = f"/v1/searches/{search_id}/events"
                with self._server.response("GET", path, headers=headers) as response:
                    for event in read_events(response):
                        patience.renew()
                        if event.number is not None:
                            if event.number <= after:
                                continue
                            after = event.number
                        yield event
                        if event.kind == END:
                            return
            except AwayError as error:
                away = error
            lost(str(away))
            patience.fail(away)
            patience.wait()

    def fetch(
        self, search_id: str, number: int, folder: Path, shown: Shown = lambda *_: None
    ) -> Model:
        """Download a model into a folder, which appears whole.

        What has arrived is kept in ``<folder>.partial`` when the connection or this process is
        lost, and the next call goes on from there.

        Args:
            folder: absent, or an earlier result, which is replaced.
            shown: receives the progress of the download.

        Raises:
            NasError: no such model, a folder with other content, a server that stays away, or an
                archive that is not what it should be.
        """
        check_output(folder)
        model = self.model(search_id, number)
        archive = folder.with_name(f"{folder.name}.partial")
        if archive.is_dir():
            raise NasError(f"{archive} is in the way of the download: remove it")
        path = f"/v1/searches/{search_id}/models/{number}/archive"
        with full_disk_reported(folder.parent):
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._download(path, archive, model.archive, shown)
        with full_disk_reported(folder.parent), replacing_folder(folder) as fresh:
            unpack(archive, fresh)
        archive.unlink()
        return model

    def upload(self, kind: UploadKind, name: str, path: Path) -> None:
        """Upload a data set, which is a file or a folder's, or a teacher's folder.

        Args:
            name: by which searches then name it.
        """
        ending = ".zip" if path.is_dir() else path.suffix.lower()
        self._server.json(
            "PUT",
            f"/v1/{kind}s/{name}",
            params={"filename": f"{kind}{ending}"},
            content=_content(kind, path),
            timeout=_UPLOAD_S,
        )

    def has_upload(self, kind: UploadKind, name: str) -> bool:
        """Whether one of that name was uploaded."""
        try:
            self._json("GET", f"/v1/{kind}s/{name}")
        except RefusedError as error:
            if error.status == 404:
                return False
            raise
        return True

    def _json(self, method: str, path: str, **options: Any) -> Any:
        """The JSON that answers a request which may safely be sent again."""
        patience = Patience(self._waits_s[:_SENT_AGAIN])
        while True:
            try:
                return self._server.json(method, path, **options)
            except AwayError as error:
                patience.fail(error)
                patience.wait()

    def _download(self, path: str, file: Path, archive: Archive, shown: Shown) -> None:
        """Have ``file`` be the archive; what it begins with may be an earlier attempt's."""
        for _ in range(2):  # the beginning may be of another model
            self._complete(path, file, archive, shown)
            if sha256(file) == archive.sha256:
                return
            file.unlink()
        raise NasError(f"what {self._server.url}{path} sends has another checksum than it should")

    def _complete(self, path: str, file: Path, archive: Archive, shown: Shown) -> None:
        patience = Patience(self._waits_s)
        while (there := file.stat().st_size if file.exists() else 0) != archive.bytes:
            headers = {"Accept-Encoding": "identity"}
            if 0 < there < archive.bytes:
                headers |= {"Range": f"bytes={there}-", "If-Range": f'"{archive.sha256}"'}
            away = AwayError(f"server {self._server.url} ended the download early")
            try:
                with self._server.response("GET", path, headers=headers) as response:
                    receive(response, file, archive.bytes, shown)
            except AwayError as error:
                away = error
            if file.exists() and file.stat().st_size > there:
                patience.renew()
            if not file.exists() or file.stat().st_size != archive.bytes:
                patience.fail(away)
                patience.wait()


UploadKind = Literal["dataset", "teacher"]
"""What is uploaded from a command line."""

UPLOADED = (*TABLES, ".zip")
"""How the names of files end that may be uploaded as a data set."""

_WANTED: dict[UploadKind, tuple[Callable[[str], object], str]] = {
    "dataset": (lambda name: name.endswith(TABLES), f"{', '.join(TABLES)} files"),
    "teacher": (
        lambda name: name in FILES or WEIGHTS.fullmatch(name),
        "model: config.json, model.safetensors and a tokenizer",
    ),
}
"""Which files of a folder are sent, and what they are called."""


def content_digest(kind: UploadKind, path: Path) -> str:
    """The checksum of what an upload of a file or folder sends, hexadecimal."""
    digest = hashlib.sha256()
    for block in _content(kind, path):
        digest.update(block)
    return digest.hexdigest()


def _content(kind: UploadKind, path: Path) -> Iterator[bytes]:
    """A file's bytes, or a folder's as a zip.

    Raises:
        NasError: it cannot be read.
    """
    try:
        if path.is_dir():
            yield from zipped(path, *_WANTED[kind])
            return
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                yield block
    except OSError as error:
        raise NasError(f"data {path}: cannot be read: {error.strerror or error}") from error
