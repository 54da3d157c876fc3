"""Malformed data sets and supernets, sent to a service that must accept none and leave nothing.

    python -m tests.stress.malformed_uploads

A real server process, real connections. Each family of uploads is malformed by the way it is made,
or, where a flipped bit may do no harm, by a reader of its own that refuses it. Nothing may be
accepted, no answer may be a 5xx, the server must be the same process in the end and take a good
upload, and no file may be left of any refused one.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import socket
import subprocess
import sys
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import local
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa

from latency.atomic import write_text
from latency.fingerprint import Fingerprint
from latency.options import load_target
from nas.service.api.body_limits import LARGE_AT_ONCE
from tests.stress.malformed_families import FAMILIES, OF_TORCH, Upload, csv_of, rows

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
SERVER = """
import sys, uvicorn
from nas.service.api.app import create_app
from nas.service.database.engine import open_database
from nas.service.database.revisions import migrate
from nas.service.service import Service
from nas.service.settings import ServiceSettings
settings = ServiceSettings(data=sys.argv[1])
engine = open_database(settings.database_url)
migrate(engine)
uvicorn.run(create_app(Service(settings, engine, None)), port=int(sys.argv[2]), log_level="warning")
"""
SLOW = 25
"""So many times fewer of the families that a check must load torch for."""
LIMIT_S = 300.0


@dataclass(frozen=True)
class Answer:
    """What came of an upload; a status of 0 where the connection was cut by intent."""

    family: str
    status: int
    seconds: float
    detail: str


class Server:
    """A service in a process of its own, in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.data, self.log = folder / "data", folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(self.data), str(self.port)], stderr=log
            )
        self._clients = local()
        while True:
            try:
                self.client.get("/v1/whoami")
                return
            except httpx2.TransportError:
                if self.process.poll() is not None:
                    raise SystemExit(self.log.read_text()) from None
                time.sleep(0.1)

    @property
    def client(self) -> httpx2.Client:
        """Of this thread."""
        if not hasattr(self._clients, "one"):
            url = f"http://127.0.0.1:{self.port}"
            self._clients.one = httpx2.Client(base_url=url, timeout=LIMIT_S)
        return self._clients.one

    def send(self, upload: Upload, name: str) -> tuple[int, str]:
        name = name if upload.name is None else upload.name
        if upload.cut is not None:
            self._send_part(upload, name)
            return 0, ""
        response = self.client.put(
            f"/v1/{upload.kind}/{name}", params={"filename": upload.filename}, content=upload.body
        )
        if response.status_code >= 400 and "json" in response.headers.get("content-type", ""):
            return response.status_code, response.json().get("detail", "")
        return response.status_code, response.text[:200]

    def _send_part(self, upload: Upload, name: str) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            head = (f"PUT /v1/{upload.kind}/{name}?filename={upload.filename} HTTP/1.1\r\n"
                    f"Host: 127.0.0.1\r\nContent-Length: {len(upload.body)}\r\n\r\n")  # fmt: skip
            connection.sendall(head.encode() + upload.body[: upload.cut])

    def memory_mb(self) -> list[float]:
        """Of the server, and of those processes of its own that stay."""
        return [_resident_kb(pid) / 1024 for pid in (self.process.pid, *self._children())]

    def left(self) -> list[str]:
        """What lies in its folders of uploads."""
        return [
            str(path.relative_to(self.data))
            for kind in ("uploads", "datasets", "supernets")
            for path in (self.data / kind).rglob("*")
            if path.name != ".lock"
        ]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def _children(self) -> list[int]:
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for children in threads for pid in children.read_text().split()]


def _resident_kb(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next(
        (int(line.split()[1]) for line in status.split("\n") if line.startswith("VmRSS")), 0
    )


def plan(count: int) -> list[tuple[str, int]]:
    """Families and numbers within them, in an order in which they come mixed."""
    slow = max(1, count // len(FAMILIES) // SLOW)
    fast = sorted(set(FAMILIES) - OF_TORCH)
    cases = [(name, number) for name in sorted(OF_TORCH) for number in range(slow)]
    each = -(-(count - len(cases)) // len(fast))
    others = [(name, number) for number in range(each) for name in fast]
    cases += others[: count - len(cases)]
    random.Random(0).shuffle(cases)
    return cases


def good_upload_taken(server: Server) -> bool:
    """Whether a sound data set is accepted, shown and deleted."""
    body = csv_of(rows(random.Random(1))).encode()
    status, _ = server.send(Upload(body), "sound")
    shown = server.client.get("/v1/datasets/sound").status_code
    gone = server.client.delete("/v1/datasets/sound").status_code
    return (status, shown, gone) == (201, 200, 204)


def table(answers: list[Answer]) -> list[dict[str, Any]]:
    found = []
    for name in FAMILIES:
        mine = [one for one in answers if one.family == name]
        if mine:
            seconds = [one.seconds for one in mine]
            found.append({
                "family": name,
                "sent": len(mine),
                "statuses": dict(sorted(Counter(str(one.status) for one in mine).items())),
                "p50_ms": float(np.percentile(seconds, 50) * 1000),
                "p95_ms": float(np.percentile(seconds, 95) * 1000),
                "messages": len({one.detail for one in mine}),
                "example": mine[0].detail[:160],
            })  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uploads", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=LARGE_AT_ONCE)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # zipfile's, over the names that we give it

    with TemporaryDirectory() as folder:
        server = Server(Path(folder))
        begun = time.monotonic()

        def one(place: int, case: tuple[str, int]) -> Answer:
            name, number = case
            upload = FAMILIES[name](random.Random(f"{arguments.seed} {name} {number}"))
            start = time.monotonic()
            status, detail = server.send(upload, f"u{place}")
            while status == 429:  # one that was cut off is still being put away
                time.sleep(0.2)
                status, detail = server.send(upload, f"u{place}")
            return Answer(name, status, time.monotonic() - start, detail)

        answers: list[Answer] = []
        memory: list[tuple[int, list[float]]] = []
        sound_before = good_upload_taken(server)
        cases = plan(arguments.uploads)
        try:
            with ThreadPoolExecutor(arguments.connections) as pool:
                for answer in pool.map(one, range(len(cases)), cases):
                    answers.append(answer)
                    if len(answers) % (arguments.uploads // 20 or 1) == 0:
                        memory.append((len(answers), server.memory_mb()))
                        shown = ", ".join(f"{one:.0f}" for one in memory[-1][1])
                        print(f"{len(answers):6} sent; MB by process: {shown}", flush=True)
            alive = server.process.poll() is None
            sound_after = good_upload_taken(server)
            left = server.left()
            tracebacks = server.log.read_text(errors="replace").count("Traceback")
        finally:
            server.stop()
    accepted = [one for one in answers if 200 <= one.status < 400]
    broken = [one for one in answers if one.status >= 500]
    vague = [
        one for one in answers if one.status >= 400 and not (one.detail and "\n" not in one.detail)
    ]
    grown = sum(memory[-1][1]) / sum(memory[0][1]) - 1 if memory else 0.0
    checks = {
        "none is accepted": not accepted,
        "no answer is a 5xx": not broken,
        "every answer is one clear line": not vague,
        "the server is the same process": alive,
        "the server logged no traceback": tracebacks == 0,
        "no file is left": not left,
        "sound uploads are taken before and after": sound_before and sound_after,
        "memory grows by less than a tenth after the first twentieth": grown < 0.1,
    }
    families = table(answers)
    content = {
        "script": "tests/stress/malformed_uploads.py",
        "arguments": vars(arguments),
        "machine": Fingerprint.of_this_machine(load_target("cpu")).to_dict(),
        "platform": platform.platform(),
        "versions": {"pyarrow": pa.__version__, "httpx": httpx2.__version__},
        "finished": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": time.monotonic() - begun,
        "checks": checks,
        "accepted": [[one.family, one.detail] for one in accepted][:50],
        "server_errors": [[one.family, one.status, one.detail] for one in broken][:50],
        "left": left[:50],
        "memory_mb": memory,
        "families": families,
    }
    for row in families:
        statuses = ", ".join(f"{count} x {status}" for status, count in row["statuses"].items())
        print(f"{row['family']:75} {statuses:30} {row['p50_ms']:7.0f} {row['p95_ms']:7.0f} ms")
    print(*(f"{'yes' if held else 'NO '} {name}" for name, held in checks.items()), sep="\n")
    for one_ in (*accepted[:10], *broken[:10], *vague[:10]):
        print(one_)
    if arguments.uploads >= 10_000:
        write_text(RESULTS / "malformed_uploads.json", json.dumps(content, indent=1) + "\n")
    if not all(checks.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
