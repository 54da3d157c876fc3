"""Requests of all kinds, by schemathesis from the OpenAPI document: each answer must be as it says.

    python -m tests.stress.fuzz_api

A real server process that holds what the document gives as examples, and all of schemathesis's
checks in all of its phases: examples, every keyword's borders, random requests, and sequences of
requests along the document's links. With a token that may do anything, and at the same time with
one that may read.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from latency.atomic import write_text
from latency.fingerprint import Fingerprint
from latency.options import load_target
from nas.service.access.tokens import create_token
from nas.service.database.engine import open_database
from nas.service.database.revisions import migrate
from nas.service.service import NobodysQueue, Service
from nas.service.settings import load_service
from tests.latency.conftest import made_profile
from tests.nas.service.populated import example_token, populate
from tests.nas.service.serving import Served, serving

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PHASES = "examples,coverage,fuzzing,stateful"
SETTINGS: dict[str, Any] = {
    "auth": "required",
    "limits": {
        "requests_per_minute": 10**9,
        "stored_per_user": 10**6,
        "searches_per_user": 10**6,
        "targets_per_user": 10**6,
        "streams": 10_000,
    },
}


def tokens(folder: Path) -> dict[str, str]:
    """Fill a service's data; tokens by what they may do."""
    settings = load_service(None, data=str(folder / "data"), **SETTINGS)
    engine = open_database(settings.database_url)
    migrate(engine)
    service = Service(settings, engine, NobodysQueue())
    populate(service, made_profile())
    found = {"admin": example_token(service, "ada", ["admin"])}
    found["read"] = create_token(engine, "grace", ["read"])[1]
    engine.dispose()
    return found


def warm_up(served: Served, token: str) -> None:
    """The first upload waits for the libraries that read it."""
    served.client.put(
        "/v1/datasets/first?filename=first.csv",
        content=b"text,label\n" + b"one,1\ntwo,2\n" * 9,
        headers={"Authorization": f"Bearer {token}"},
        timeout=300,
    ).raise_for_status()


def run(url: str, token: str, report: Path, given: argparse.Namespace) -> dict[str, Any]:
    """What schemathesis found, with a token."""
    began = time.monotonic()
    # One worker: Python 3.11 compiles no syntax tree in two threads at once, which schemathesis's
    # generators do. What is tested at the same time is another run's.
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml",
         "run", f"{url}/v1/openapi.json", "--checks", "all", "--phases", PHASES,
         "--max-examples", str(given.examples), "--workers", "1",
         "--seed", str(given.seed), "--header", f"Authorization: Bearer {token}",
         "--generation-database", "none", "--report", "json", "--report-json-path", report],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=report.parent,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(report.read_text())
    return {
        "seconds": round(time.monotonic() - began),
        "exit_code": done.returncode,
        "operations": found["operations"],
        "cases": found["test_cases"],
        "failures": found["failures"],
        "errors": found["errors"],
        "phases": found["phases"],
        "answers": found["valid_rates"],
        "schemathesis": found["schemathesis_version"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=300, help="of an operation and phase")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        allowed = tokens(folder)
        with serving(folder, works=False, **SETTINGS) as served:
            warm_up(served, allowed["admin"])
            began = time.monotonic()
            with ThreadPoolExecutor(len(allowed)) as pool:
                running = {
                    scope: pool.submit(run, served.url, token, folder / f"{scope}.json", given)
                    for scope, token in allowed.items()
                }
            runs = {scope: one.result() for scope, one in running.items()}
            seconds = round(time.monotonic() - began)
            log = served.log.read_text(errors="replace")
    result = {
        "script": "tests/stress/fuzz_api.py",
        "arguments": vars(given),
        "machine": Fingerprint.of_this_machine(load_target("cpu")).to_dict(),
        "finished": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": seconds,
        "cases": sum(one["cases"]["generated"] for one in runs.values()),
        "failures": sum(one["cases"]["unique_failures"] for one in runs.values()),
        "tracebacks_in_the_log": log.count("Traceback"),
        "runs": runs,
    }
    write_text(
        ROOT / "benchmarks" / "results" / "fuzz_api.json", json.dumps(result, indent=1) + "\n"
    )
    print(json.dumps({key: result[key] for key in ("seconds", "cases", "failures")}))
    if any(one["exit_code"] for one in runs.values()) or result["tracebacks_in_the_log"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
