"""How much a service of one process takes: queries, event streams, and reads beside a search.

    NAS_DATA=data python -m tests.stress.service_load

A real `nas serve` with tokens, on SQLite, and beside it on the same machine the load: wrk for
`POST /v1/architectures:query` on a search that has really run, then 200 event streams that follow
a search while it runs, then reads of several kinds beside that search. wrk must be installed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2
import yaml

from latency.atomic import write_text
from latency.fingerprint import Fingerprint
from latency.options import load_target
from nas.service.access.tokens import create_token
from nas.service.database.engine import open_database
from nas.service.settings import ServiceSettings
from nas.settings import data_folder
from supernet.configs import read_config

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
RECIPE = read_config("recipes", "smoke") | {
    "max_length": 32,
    "profile_s": 10,
    "search": {"evaluations": 48, "refinement": 4},
}
SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer %s"
request = function()
  local budget = %f + %f * math.random()
  local body = string.format('{"search": "%s", "budget": "%%.4fms"}', budget)
  return wrk.format(nil, "/v1/architectures:query", nil, body)
end
done = function(summary, latency, requests)
  io.write(string.format('{"requests": %%d, "duration_us": %%d, "errors": %%d, "p50_us": %%d, ' ..
    '"p99_us": %%d, "max_us": %%d}\\n', summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read +
    summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
"""


class Server:
    """A service in a process of its own, and a token for it."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        source = data_folder()
        assert source is not None
        settings = {
            "data": str(folder / "data"),
            "port": self.port,
            "auth": "required",
            "log": "json",
            "datasets": {"trec": str(source / "trec")},
            "limits": {"requests_per_minute": 10_000_000},
        }
        config = folder / "service.yaml"
        config.write_text(yaml.safe_dump(settings))
        self.url = f"http://127.0.0.1:{self.port}"
        with (folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from nas.cli import main; main()", "serve",
                 "--config", str(config)],
                stdout=log, stderr=log,
            )  # fmt: skip
        for _ in range(1200):
            try:
                httpx2.get(f"{self.url}/healthz")
                break
            except httpx2.TransportError:
                time.sleep(0.1)
        url = ServiceSettings.model_validate(settings).database_url
        _, self.token = create_token(open_database(url), "load", ["read", "submit"])
        self.headers = {"Authorization": f"Bearer {self.token}"}
        self.client = httpx2.Client(base_url=self.url, headers=self.headers, timeout=60)

    def submit(self, seed: int) -> str:
        wanted = {
            "budgets": ["1000ms"], "space": "tiny", "data": "trec", "recipe": RECIPE,
            "seed": seed,
        }  # fmt: skip
        answer = self.client.post("/v1/searches", json=wanted)
        answer.raise_for_status()
        return str(answer.json()["id"])

    def await_end(self, search_id: str) -> None:
        while True:
            found = self.client.get(f"/v1/searches/{search_id}").json()
            if found["status"] == "done":
                return
            if found["status"] == "failed":
                raise SystemExit(found["error"])
            print(f"\r{found['stage']} ... ", end="", file=sys.stderr, flush=True)
            time.sleep(1)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)


def queries(server: Server, folder: Path, search_id: str, seconds: int, repeats: int) -> list[Any]:
    """What wrk measured, in each repeat."""
    script = folder / "query.lua"
    front = server.client.get(f"/v1/searches/{search_id}/models/0/front").json()
    scored = [one["latency_ms"] for one in front["evaluations"] if one["within_caps"]]
    least = min(scored) + 1e-4  # of what is asked for, there is some
    script.write_text(SCRIPT % (server.token, least, max(scored) - least, search_id))
    found = []
    for _ in range(repeats):
        done = subprocess.run(
            ["wrk", "-t1", "-c8", f"-d{seconds}s", "-s", str(script), server.url],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        told = re.search(r"^\{.*\}$", done.stdout, re.MULTILINE)
        assert told, done.stdout
        one = json.loads(told[0])
        one["per_second"] = one["requests"] / one["duration_us"] * 1e6
        found.append(one)
    return found


async def follow(client: httpx2.AsyncClient, search_id: str, late_ms: list[float]) -> list[str]:
    """A stream's events to its end; how late each came, by the one clock of this machine."""
    seen: list[str] = []
    async with client.stream("GET", f"/v1/searches/{search_id}/events") as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line.startswith("id:"):
                seen.append(line)
                late_ms.append(1000 * time.time())
    return seen


async def reads(server: Server, search_id: str, done: str, per_second: float) -> dict[str, Any]:
    """Latencies of reads at an even pace until the search has ended."""
    taken: dict[str, list[float]] = {}
    paths = ["/v1/searches", f"/v1/searches/{search_id}", f"/v1/searches/{done}/models/0/front"]
    paths += ["/v1/catalog", "/readyz"]

    async def read(client: httpx2.AsyncClient, path: str) -> None:
        began = time.perf_counter()
        answer = await client.get(path)
        answer.raise_for_status()
        kind = path.replace(search_id, "{id}").replace(done, "{id}")
        taken.setdefault(kind, []).append(1000 * (time.perf_counter() - began))

    limits = httpx2.Limits(max_connections=50)
    async with httpx2.AsyncClient(
        base_url=server.url, headers=server.headers, timeout=60, limits=limits
    ) as client:
        waiting = set()
        number = 0
        while True:
            waiting.add(asyncio.create_task(read(client, paths[number % len(paths)])))
            number += 1
            if number % 50 == 0:
                state = (await client.get(f"/v1/searches/{search_id}")).json()["status"]
                if state not in ("queued", "running"):
                    break
            await asyncio.sleep(1 / per_second)
        await asyncio.gather(*waiting)
    everything = sorted(ms for some in taken.values() for ms in some)
    return {
        "reads": len(everything),
        "per_second": per_second,
        "p50_ms": statistics.median(everything),
        "p99_ms": everything[int(0.99 * len(everything))],
        "max_ms": everything[-1],
        "p99_ms_by_path": {path: sorted(ms)[int(0.99 * len(ms))] for path, ms in taken.items()},
    }


async def streams(server: Server, search_id: str, count: int) -> dict[str, Any]:
    """Many streams of one search from its beginning to its end: each must tell all, in order."""
    moments: list[list[float]] = [[] for _ in range(count)]
    many = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(
        base_url=server.url, headers=server.headers, timeout=None, limits=many
    ) as client:
        told = await asyncio.gather(*(follow(client, search_id, kept) for kept in moments))
    first = told[0]
    by_event = [[one[n] for one in moments if len(one) > n] for n in range(len(first))]
    spread = sorted(max(one) - min(one) for one in by_event)
    numbers = [int(line.removeprefix("id:")) for line in first]
    return {
        "streams": count,
        "events": len(first),
        "all_alike": all(one == first for one in told),
        "in_order": numbers == list(range(1, len(first) + 1)),
        "from_first_to_last_stream_p50_ms": statistics.median(spread),
        "from_first_to_last_stream_p99_ms": spread[int(0.99 * len(spread))],
    }


async def beside_a_search(server: Server, search_id: str, done: str, count: int) -> dict[str, Any]:
    found = await asyncio.gather(
        streams(server, search_id, count), reads(server, search_id, done, per_second=20)
    )
    return {"streams": found[0], "reads_beside_a_search_and_streams": found[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=20, help="of each run of wrk")
    parser.add_argument("--repeats", type=int, default=5, help="runs of wrk")
    parser.add_argument("--streams", type=int, default=200)
    given = parser.parse_args()
    if data_folder() is None:
        raise SystemExit("NAS_DATA must name a folder that holds trec")
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed")
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    folder = Path(tempfile.mkdtemp(prefix="load"))
    server = Server(folder)
    try:
        done = server.submit(seed=0)
        server.await_end(done)
        asked = queries(server, folder, done, given.seconds, given.repeats)
        running = server.submit(seed=1)
        beside = asyncio.run(beside_a_search(server, running, done, given.streams))
        reads_alone_of = server.submit(seed=2)
        calm = asyncio.run(reads(server, reads_alone_of, done, per_second=20))
    finally:
        server.stop()
    rates = [one["per_second"] for one in asked]
    result = {
        "machine": Fingerprint.of_this_machine(load_target("cpu")).to_dict(),
        "run": secrets.token_hex(4),
        "queries": {
            "connections": 8,
            "per_second": {
                "median": statistics.median(rates), "least": min(rates), "most": max(rates)
            },
            "p99_ms": {
                "median": statistics.median(one["p99_us"] for one in asked) / 1000,
                "most": max(one["p99_us"] for one in asked) / 1000,
            },
            "errors": sum(one["errors"] for one in asked),
            "runs": asked,
        },
        "reads_beside_a_search": calm,
        **beside,
    }  # fmt: skip
    write_text(RESULTS / "service_load.json", json.dumps(result, indent=2) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "machine"}, indent=2))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
