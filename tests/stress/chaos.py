"""Searches on a service that is killed again and again: each must end once, with the same result.

    NAS_DATA=data python -m tests.stress.chaos --database sqlite postgresql

Jobs run first on a service that nobody disturbs. Then the same jobs run on another, which has the
first one's profile of this machine and nothing else: it is killed with SIGKILL, its jobs' processes
with it, at random moments from the first search to the last, and started again; a PostgreSQL server
(one of the benchmark's own) is also stopped and started in between. In the end every search must be
done, with one event that says so, its weights and scores equal to the byte with those of the
undisturbed run, and no file may lie in the data folder that belongs to nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import sqlalchemy as sa
import yaml

from latency.atomic import write_text
from latency.fingerprint import Fingerprint
from latency.options import load_target
from nas.service.database.engine import open_database
from nas.service.database.tables import events
from nas.service.settings import ServiceSettings
from nas.settings import data_folder
from supernet.configs import load_space, read_config

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
CAPS = (None, 499_000, 500_300, 503_000, 997_795, 1_001_000)
"""Parameters: each makes a search of its own on the supernet of a seed."""


def wanted(number: int) -> dict[str, Any]:
    """The request of a job: some share a seed, hence teacher and supernet."""
    recipe = read_config("recipes", "smoke")
    return {
        "budgets": ["2x"],  # the space's models are a hundred times as fast: measuring decides none
        "space": "tiny",
        "data": "trec",
        "recipe": recipe | {"profile_s": 5, "search": {"evaluations": 12, "refinement": 2}},
        "seed": number // len(CAPS),
        "max_parameters": CAPS[number % len(CAPS)],
    }


class Server:
    """A service in a process group of its own."""

    def __init__(self, folder: Path, database: str | None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.data = folder / "data"
        source = data_folder()
        assert source is not None
        settings: dict[str, Any] = {
            "data": str(self.data),
            "port": self.port,
            "datasets": {"trec": str(source / "trec")},
            "jobs": {"at_once": 1},
        }
        if database is not None:
            settings["database"] = database
        self.settings = ServiceSettings.model_validate(settings)
        self.config = folder / "service.yaml"
        self.config.write_text(yaml.safe_dump(settings))
        self.log = folder / "log"
        self.environment = os.environ | {"TMPDIR": str(folder / "tmp")}  # by which it is known
        self.process: subprocess.Popen[bytes] | None = None
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from nas.cli import main; main()", "serve",
                 "--config", str(self.config)],
                stdout=log, stderr=log, start_new_session=True, env=self.environment,
            )  # fmt: skip

    def await_ready(self) -> None:
        for _ in range(1200):
            try:
                if self.client.get("/v1/whoami").is_success:
                    return
            except httpx2.TransportError:
                pass
            assert self.process is not None
            if self.process.poll() is not None:
                raise SystemExit(f"the service ended: {self.log.read_text()[-2000:]}")
            time.sleep(0.1)
        raise SystemExit("the service does not answer")

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)  # it alone: what it started must end by itself
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(timeout=60)

    def patiently(self, method: str, path: str, **given: Any) -> httpx2.Response:
        """An answer, however often the service goes away."""
        while True:
            try:
                answer = self.client.request(method, path, **given)
                if answer.status_code < 500:
                    return answer
            except httpx2.TransportError:
                pass
            time.sleep(0.2)


class Postgres:
    """A PostgreSQL server of the benchmark's own, on a socket in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        name = shutil.which("initdb")
        self.programs = found[-1] if found else Path(str(name)).resolve().parent
        self.folder = folder
        self.user: dict[str, Any] = {"user": "nobody"} if os.geteuid() == 0 else {}
        folder.mkdir(parents=True)
        if self.user:
            shutil.chown(folder, "nobody")
        subprocess.run(
            [self.programs / "initdb", "-D", "data", "-U", "owner", "-A", "trust"],
            check=True, capture_output=True, cwd=folder, **self.user,
        )  # fmt: skip
        self.url = f"postgresql://owner@/postgres?host={folder}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.folder / "data", "-k", self.folder,
                 "-h", ""],
                stdout=log, stderr=log, cwd=self.folder, **self.user,
            )  # fmt: skip
        engine = sa.create_engine(self.url.replace("postgresql:", "postgresql+psycopg:"))
        for _ in range(300):
            try:
                engine.connect().close()
                break
            except sa.exc.OperationalError:
                time.sleep(0.1)
        engine.dispose()

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)  # "fast": connections are ended
        self.process.wait(timeout=60)


def submit(server: Server, jobs: int) -> list[str]:
    """The searches' ids; a request whose answer was lost is repeated with its key.

    No two in the same second, for a queue in SQLite tells no finer which of them came first; and
    scores of earlier searches count in later ones.
    """
    ids = []
    for number in range(jobs):
        time.sleep(1.05)
        answer = server.patiently(
            "POST", "/v1/searches", json=wanted(number),
            headers={"Idempotency-Key": f"job-{number}"},
        )  # fmt: skip
        if answer.status_code not in (200, 201):
            raise SystemExit(answer.text)
        ids.append(answer.json()["id"])
    return ids


def ended(server: Server, ids: list[str]) -> int:
    found = server.patiently("GET", "/v1/searches", params={"limit": 200}).json()["items"]
    return sum(one["id"] in ids and one["status"] in ("done", "failed") for one in found)


def outcome(server: Server, search_id: str) -> dict[str, Any]:
    """What a search came to, without what a clock measured."""
    found = server.patiently("GET", f"/v1/searches/{search_id}").json()
    if found["status"] != "done":
        return {"status": found["status"], "error": found["error"]}
    (model,) = found["models"]
    place = server.data / "results" / search_id / "0"
    report = json.loads((place / "report.json").read_text())
    with zipfile.ZipFile(place / "archive.zip") as archive:
        weights = {
            name: hashlib.sha256(archive.read(name)).hexdigest()
            for name in ("model/model.safetensors", "model.onnx")
        }
    return {
        "status": "done",
        "architecture": model["architecture"],
        "score": model["score"],
        "evaluations": [(one["architecture"], one["score"]) for one in report["evaluations"]],
        **weights,
    }


def orphans(server: Server, ids: list[str]) -> list[str]:
    """Files and folders of the data folder that belong to nothing."""
    data = server.data
    found = list((data / "scratch").glob("*"))
    found += (data / "results").rglob(".*")
    found += [path for path in (data / "results").glob("*") if path.name not in ids]
    found += [path for path in (data / "results").glob("*/*") if path.name != "0"]
    found += (data / "workspace").rglob("*.partial")
    found += [path for path in (data / "workspace").rglob(".*") if path.name != ".lock"]
    return [str(path.relative_to(data)) for path in found]


def endings(server: Server, ids: list[str]) -> Counter[int]:
    """How many searches have how many events that say that they ended."""
    engine = open_database(server.settings.database_url)
    with engine.connect() as connection:
        rows = connection.execute(
            sa.select(events.c.search_id, events.c.data).where(events.c.kind == "status")
        ).all()
    engine.dispose()
    counted = Counter(row.search_id for row in rows if row.data["status"] in ("done", "failed"))
    return Counter(counted[search_id] for search_id in ids)


def processes_left(folder: Path) -> int:
    """Processes that still work in a folder after its service was killed."""
    left = 0
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            content = entry.read_bytes()
            state = (entry.parent / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        left += str(folder).encode() in content and state != "Z"
    return left


@contextmanager
def served(folder: Path, database: str | None) -> Iterator[Server]:
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    server = Server(folder, database)
    server.start()
    server.await_ready()
    try:
        yield server
    finally:
        server.stop()


def undisturbed(folder: Path, jobs: int) -> tuple[list[dict[str, Any]], float]:
    with served(folder, None) as server:
        began = time.monotonic()
        ids = submit(server, jobs)
        while (count := ended(server, ids)) < jobs:
            show("undisturbed", count, jobs)
            time.sleep(1)
        return [outcome(server, one) for one in ids], time.monotonic() - began


def show(what: str, count: int, jobs: int) -> None:
    print(f"\r{what}: {count} of {jobs} searches ended ", end="", file=sys.stderr, flush=True)


def disturbed(
    folder: Path, given: Path, kind: str, jobs: int, kills: int, pause_s: float, seed: int
) -> dict[str, Any]:
    rng = random.Random(seed)
    postgres = Postgres(folder / "postgres") if kind == "postgresql" else None
    if postgres is not None:
        postgres.start()
    shutil.copytree(given / "data/workspace/profile", folder / "data/workspace/profile")
    restarts = 0
    moments = []
    with served(folder, None if postgres is None else postgres.url) as server:
        ids = submit(server, jobs)
        for kill in range(kills):
            while ended(server, ids) < kill * jobs // kills:  # kills meet the last searches too
                time.sleep(0.2)
            time.sleep(rng.uniform(0.2, 2 * pause_s))
            before = ended(server, ids)
            server.kill()
            moments.append(before)
            show(f"killed {kill + 1} times", before, jobs)
            if postgres is not None and kill % 7 == 3:
                postgres.stop()
                postgres.start()
                restarts += 1
            server.start()
            server.await_ready()
            if postgres is not None and kill % 7 == 6:  # with the service up
                time.sleep(rng.uniform(0.2, 3))
                postgres.stop()
                time.sleep(1)
                postgres.start()
                restarts += 1
        while (count := ended(server, ids)) < jobs:
            show(f"killed {kills} times", count, jobs)
            time.sleep(1)
        again = submit(server, min(jobs, 5))  # the keys still stand for the same searches
        found = {
            "outcomes": [outcome(server, one) for one in ids],
            "ended_before_each_kill": moments,
            "database_restarts": restarts,
            "same_keys_same_searches": again == ids[:5],
            "times_ended": dict(endings(server, ids)),
        }
        time.sleep(1)
        found["orphans"] = orphans(server, ids)
    for _ in range(10):
        found["processes_left"] = processes_left(folder)
        if not found["processes_left"]:
            break
        time.sleep(1)
    if postgres is not None:
        postgres.stop()
    return found


def write_result(
    given: argparse.Namespace,
    database: str,
    seconds: float,
    truth: list[dict[str, Any]],
    found: dict[str, Any],
) -> None:
    outcomes = found.pop("outcomes")
    different = [
        number
        for number, (ours, theirs) in enumerate(zip(outcomes, truth, strict=True))
        if ours != theirs
    ]
    result = {
        "machine": Fingerprint.of_this_machine(load_target("cpu")).to_dict(),
        "database": database,
        "jobs": given.jobs,
        "kills": given.kills,
        "seed": given.seed,
        "mean_seconds_between_kills": given.pause,
        "seconds_undisturbed": round(seconds),
        "statuses": dict(Counter(one["status"] for one in outcomes)),
        "different_results": different,
        "distinct_weights": len({one.get("model.onnx") for one in outcomes}),
        **found,
    }
    write_text(RESULTS / f"chaos-{database}.json", json.dumps(result, indent=2) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "machine"}, indent=2), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    kinds = ("sqlite", "postgresql")
    parser.add_argument("--database", choices=kinds, nargs="+", default=kinds)
    parser.add_argument("--jobs", type=int, default=30)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pause", type=float, default=15.0, help="mean seconds between kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--keep", type=Path, help="a folder to work in, and to look at; to go on in"
    )
    given = parser.parse_args()
    if data_folder() is None:
        raise SystemExit("NAS_DATA must name a folder that holds trec")
    assert load_space("tiny").size
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    root = given.keep or Path(tempfile.mkdtemp(prefix="chaos"))
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    truth, seconds = undisturbed(root / "undisturbed", given.jobs)
    print(f"\nundisturbed: {seconds:.0f} s", file=sys.stderr)
    with ThreadPoolExecutor() as both:
        runs = {
            database: both.submit(
                disturbed, root / database, root / "undisturbed", database, given.jobs,
                given.kills, given.pause, given.seed,
            )
            for database in given.database
        }  # fmt: skip
        for database, run in runs.items():
            write_result(given, database, seconds, truth, run.result())
    if given.keep is None:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
