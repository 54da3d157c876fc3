"""A server that answers as a test tells it to, and goes away in the middle as real ones do."""

from __future__ import annotations

import hashlib
import io
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

SEARCH = {
    "id": "s1",
    "owner": "ada",
    "created": "2025-01-01T00:00:00Z",
    "status": "done",
    "stage": None,
    "request": {"data": "pydoc", "targets": ["cpu"], "budgets": ["4x"], "recipe": "quick"},
    "error": None,
    "expired": False,
    "models": None,
    "a key of a later version": 1,
}


def zip_of(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/"), data)
    return content.getvalue()


ARCHIVE = zip_of(
    **{
        "model__config.json": b"{}",
        "model__model.safetensors": bytes(range(256)) * 2000,
        "model.onnx": b"onnx" * 1000,
        "report.json": b"{}",
        "report.html": b"<p>",
    }
)
MODEL = {
    "number": 0,
    "target": "cpu",
    "budget": "4x",
    "budget_ms": 5.0,
    "percentile": 50,
    "architecture": {},
    "measured_ms": 4.5,
    "speedup": 4.4,
    "metric": "accuracy",
    "score": 0.9,
    "teacher_score": 0.96,
    "archive": {"bytes": len(ARCHIVE), "sha256": hashlib.sha256(ARCHIVE).hexdigest()},
}


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The URL of an app that a thread serves."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_keep_alive=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


class Scripted:
    """A server whose next response to a method and path is the next of a list."""

    def __init__(self) -> None:
        self.asked: list[tuple[Request, bytes]] = []
        self._next: dict[str, list[Any]] = {}
        self.app = FastAPI()
        self.app.add_api_route("/{path:path}", self._answer, methods=["GET", "POST", "PUT"])

    def on(self, what: str, *responses: Any) -> None:
        """Answer ``what``, such as ``GET /v1/searches``, so; the last one for ever."""
        self._next[what] = list(responses)

    async def _answer(self, request: Request) -> Response:
        self.asked.append((request, await request.body()))
        waiting = self._next[f"{request.method} {request.url.path}"]
        response = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return response(request) if callable(response) else response


def problem(status: int, detail: str, **headers: str) -> Callable[[Request], Response]:
    body = f'{{"type":"about:blank","status":{status},"detail":"{detail}"}}'
    return lambda _: Response(body, status, headers, "application/problem+json")


def json(data: Any, status: int = 200) -> Callable[[Request], Response]:
    return lambda _: JSONResponse(data, status)


def stream(*chunks: str, lost: bool = False) -> Callable[[Request], Response]:
    """Events; ``lost`` breaks the connection after them."""

    async def body():
        for chunk in chunks:
            yield chunk.encode()
        if lost:
            raise ConnectionResetError

    return lambda _: StreamingResponse(body(), media_type="text/event-stream")


def archive(upto: int | None = None, content: bytes = ARCHIVE) -> Callable[[Request], Response]:
    """The archive, as Range asks for it; the connection breaks at byte ``upto``."""

    def answer(request: Request) -> Response:
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        begin, status = 0, 200
        if (asked := request.headers.get("range")) and request.headers["if-range"] == etag:
            begin, status = int(asked.removeprefix("bytes=").removesuffix("-")), 206

        async def body():
            end = len(content) if upto is None else upto
            for at in range(begin, end, 100_000):
                yield content[at : min(at + 100_000, end)]
            if upto is not None:
                raise ConnectionResetError

        headers = {"ETag": etag, "Content-Length": str(len(content) - begin)}
        return StreamingResponse(body(), status, headers)

    return answer
