"""``nas serve`` and ``nas worker``: the service's own processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated

import typer

from nas.settings import secret
from supernet.errors import NasError

if TYPE_CHECKING:
    from nas.service.service import Service
    from nas.service.settings import ServiceSettings

ConfigOption = Annotated[
    str | None,
    typer.Option("--config", help="A name under configs/service, or a YAML file."),
]
DataFolderOption = Annotated[
    Path | None,
    typer.Option(
        "--data", help="The folder of results, uploads, profiles, and of the SQLite database."
    ),
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        help="`postgresql://user@host/name`; by default SQLite in the data folder. A URL with a "
        "password is better given by NAS_DATABASE_URL or in the file NAS_DATABASE_URL_FILE names."
    ),
]


def serve(
    config: ConfigOption = None,
    data: DataFolderOption = None,
    database: DatabaseOption = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="The address to listen on. On any but loopback, the service asks for tokens."
        ),
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535)] = None,
    worker: Annotated[
        bool,
        typer.Option(
            help="Also run searches in this process; else `nas worker` runs them, anywhere."
        ),
    ] = True,
) -> None:
    """Serve searches over HTTP, with a page: submit a budget, watch it, fetch the model.

    **Example:** `nas serve`, then open http://127.0.0.1:8765

    The data folder holds everything. A service that was stopped or killed continues where it was
    when it is started again. On a loopback address it asks for no token; elsewhere make one with
    `nas admin token create`.
    """
    from nas.service.running.listening import listening
    from nas.service.settings import load_service

    settings = load_service(config, data=data, database=database, host=host, port=port)
    at = listening(settings.host, settings.port)  # before all that takes its time to load
    from nas.service.api.app import create_app
    from nas.service.jobs.worker import Worker, migrate_all
    from nas.service.running.server import Server, run_server
    from nas.service.searches.webhooks import deliver, signing_key
    from nas.service.upkeep.retention import look_after

    key = signing_key(secret("NAS_WEBHOOK_SECRET"))
    service = _service(settings)
    instead = "a service works at this data folder: add --no-worker, or give another --data"
    works = Worker(service, instead=instead) if worker else None
    migrate_all(service.settings, service.engine)
    server = Server(create_app(service), settings, at=at)
    if works is not None:
        works.start()
    ended = threading.Event()
    looks_after = (service.settings, service.engine, ended)
    threading.Thread(target=look_after, args=looks_after, daemon=True).start()
    delivers = (service.engine, key, settings.webhook_hosts, ended)
    threading.Thread(target=deliver, args=delivers, daemon=True).start()
    try:
        run_server(server)
    finally:
        ended.set()
        if works is not None:
            works.stop()
    _leave()


def work(
    config: ConfigOption = None,
    data: DataFolderOption = None,
    database: DatabaseOption = None,
    name: Annotated[
        str | None,
        typer.Option(help="The worker's name, unlike any other's; by default the machine's name."),
    ] = None,
) -> None:
    """Run the searches of a service whose database and data folder this machine reaches.

    **Example:** `nas worker --database postgresql://nas@db/nas --data /mnt/tailorbert`

    Start one on each machine. When a worker is lost, the others continue its searches at the stage
    that it was in.
    """
    from nas.service.jobs.worker import Worker, migrate_all
    from nas.service.settings import load_service

    service = _service(load_service(config, data=data, database=database))
    worker = Worker(service, name)
    migrate_all(service.settings, service.engine)
    ended = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: ended.set())
    worker.start()
    sys.stderr.write(f"worker {worker.name} waits for searches\n")
    ended.wait()
    worker.stop()
    _leave()


def _service(settings: ServiceSettings) -> Service:
    """A service, its logs set up and its database open.

    Raises:
        NasError: it cannot be started so.
    """
    from nas.service.database.engine import open_database
    from nas.service.jobs.durable_queue import DurableQueue
    from nas.service.running.logs import set_up_logs
    from nas.service.service import Service

    os.umask(0o077)  # what users sent and searches found is the service's own to read
    set_up_logs(settings.log)
    _check_writable(settings.data)
    engine = open_database(settings.database_url)
    return Service(settings, engine, DurableQueue(engine))


def _check_writable(data: Path) -> None:
    """Refuse a data folder in which nothing can be kept.

    Raises:
        NasError: it cannot be made or written to.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=data) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise NasError(f"data {data} cannot be written to: {error.strerror}") from error


def _leave() -> None:
    """End without waiting for threads that wait for a database or a device."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
