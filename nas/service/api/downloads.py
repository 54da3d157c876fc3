"""Files over HTTP: ranges of them, and those that the client has already."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from nas.service.api.problems import problem_response


class Download(FileResponse):
    """A file, of which a client may ask for ranges; one that it has not is a problem as any."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; a range in units other than bytes is passed over (RFC 9110, 14.2)."""
        kept_headers = [
            (name, value)
            for name, value in scope["headers"]
            if name != b"range" or value.strip().lower().startswith(b"bytes")
        ]
        scope = {**scope, "headers": kept_headers}
        refused: Message | None = None

        async def answer(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] in (400, 416):
                refused = message
            if refused is None:
                await send(message)

        await super().__call__(scope, receive, answer)
        if refused is None:
            return
        told = {name.decode(): value.decode() for name, value in refused["headers"]}
        kept = {name: told[name] for name in ("content-range",) if name in told}
        detail = "Range must be bytes=FIRST-LAST, within the file"
        await problem_response(refused["status"], detail, kept)(scope, receive, send)


def is_known(request: Request, tag: str) -> bool:
    """Whether the client has what a tag stands for: its ``If-None-Match`` names it."""
    given = request.headers.get("If-None-Match", "")
    known = {one.strip().removeprefix("W/") for one in given.split(",")}
    return bool({"*", tag.removeprefix("W/")} & known)
