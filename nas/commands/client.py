"""``nas submit``, ``watch``, ``fetch`` and the like: searches that a service runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.table import Column, Table

from latency.target import Budget
from nas.commands.options import (
    LabelOption,
    LabelsOption,
    MetricOption,
    SeedOption,
    SpaceOption,
    TextOption,
    out,
    split_labels,
)
from nas.models.model_folders import CONFIG, without_model
from nas.settings import secret, server_url
from nas.store.result_folder import check_output
from nas.terminal.progress import Display
from supernet.architecture import Architecture
from supernet.errors import NasError

if TYPE_CHECKING:
    from nas.service.client import ServiceClient
    from nas.service.client.replies import Model, Search
    from nas.service.client.service_client import UploadKind

ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        help="The service's address, such as `https://nas.example.org`; by default what "
        "`NAS_SERVER` says, or `http://127.0.0.1:8765`.",
    ),
]
TokenOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help="A file that holds the token; by default `NAS_TOKEN`, or the file that "
        "`NAS_TOKEN_FILE` names. A service on this machine may ask for none.",
    ),
]
SearchArgument = Annotated[str, typer.Argument(help="The search's id, as `nas submit` prints it.")]


def submit(
    latency: Annotated[
        list[str],
        typer.Option(
            help="The budget: milliseconds (`5ms`), a speed-up over the teacher (`4x`), or either "
            "at the 95th percentile (`5ms@p95`). Given several times, one search serves all."
        ),
    ],
    target: Annotated[
        list[str],
        typer.Option(
            help="Where the model will serve: a target that the service knows, one of its devices "
            "included. Given several times, every budget is met on each."
        ),
    ] = ["cpu"],  # noqa: B006 typer copies it
    data: Annotated[
        str,
        typer.Option(
            help="`pydoc`, a file or folder here (Parquet, CSV, JSONL), which is uploaded, or else "
            "the name of a data set that the service knows."
        ),
    ] = "pydoc",
    teacher: Annotated[
        str,
        typer.Option(
            help="A model's folder here, which is uploaded, or else the name of a teacher that the "
            "service knows."
        ),
    ] = "minilm",
    space: SpaceOption = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="How much work to put in: the name of a recipe (on two cores `quick` takes "
            "4 to 8 minutes, `standard` 6 to 12, `full` longer), or a YAML file here."
        ),
    ] = "full",
    text: TextOption = None,
    label: LabelOption = "label",
    metric: MetricOption = None,
    labels: LabelsOption = None,
    seed: SeedOption = 0,
    priority: Annotated[
        int,
        typer.Option(min=1, max=1000, help="Order among your own searches: 1 comes before 1000."),
    ] = 100,
    name: Annotated[
        str | None, typer.Option(help="A title to list the search by, such as `Tickets, nightly`.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="A note on the search, for colleagues.")] = None,
    webhook: Annotated[
        str | None,
        typer.Option(
            help="An `https://` address to notify when the search ends, on a host that the "
            "service's operator allows."
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show the progress.")] = False,
    fetch: Annotated[
        Path | None,
        typer.Option(
            help="Stay, and download the models into this folder when the search is done."
        ),
    ] = None,
    server: ServerOption = None,
    token_file: TokenOption = None,
) -> None:
    """Submit a search within a latency budget to a service, and print the search's id.

    **Example:** `nas submit --latency 4x --data my-data/ --fetch fast-model`

    **In the background:** `id=$(nas submit --latency 4x)`, and later `nas watch $id` and
    `nas fetch $id -o fast-model`. The search continues whether anybody watches or not.
    """
    for budget in latency:  # what can be refused here is, before data is uploaded
        Budget.parse(budget)
    if fetch is not None and len(latency) == len(target) == 1:
        check_output(fetch)
    request: dict[str, Any] = {
        "text_columns": text,
        "label_column": label,
        "metric": metric,
        "labels": None if labels is None else split_labels(labels),
        "space": None if space is None else _named_or_read("space", space),
        "targets": target,
        "budgets": latency,
        "recipe": _named_or_read("recipe", recipe),
        "seed": seed,
        "priority": priority,
    }
    words = {"name": name, "note": note, "webhook": webhook}
    request |= {key: value for key, value in words.items() if value is not None}
    with _connected(server, token_file) as client:
        request["data"] = _known_data(client, data)
        request["teacher"] = _known_teacher(client, teacher)
        submitted = client.create_search(request)
        out.print(submitted.id)
        if not (watch or fetch):
            return
        done = _watched(client, submitted.id)
        if fetch is not None:
            _fetch(client, done, fetch)


def watch(
    search: SearchArgument, server: ServerOption = None, token_file: TokenOption = None
) -> None:
    """Show a service's search while it runs, and what it found.

    Ctrl-C leaves the search running. The exit code is 0 when it is done, 1 when it failed or was
    cancelled.

    **Example:** `nas watch 3f0c9a51d2b7e684`
    """
    with _connected(server, token_file) as client:
        _watched(client, search)


def fetch(
    search: SearchArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The folder that receives model and report; several models get a folder in it "
            "each.",
        ),
    ],
    model: Annotated[
        int | None, typer.Option(min=0, help="Download only the model of this number, from 0.")
    ] = None,
    server: ServerOption = None,
    token_file: TokenOption = None,
) -> None:
    """Download what a service's search found.

    The folder appears only once it is complete. Run the command again to continue a download that
    was cut off.

    **Example:** `nas fetch 3f0c9a51d2b7e684 -o fast-model`
    """
    with _connected(server, token_file) as client:
        _fetch(client, client.search(_id(search)), output, model)


def searches(
    mine: Annotated[
        str | None, typer.Option("--owner", help="List only this user's searches.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="List at most so many.")] = 20,
    server: ServerOption = None,
    token_file: TokenOption = None,
) -> None:
    """List a service's searches, newest first.

    **Example:** `nas searches --owner ada`
    """
    table = Table(
        Column("id", no_wrap=True, min_width=16),  # to be copied whole
        Column("search", ratio=1),
        "owner",
        Column("created (UTC)", no_wrap=True),
        Column("status", no_wrap=True),
    )
    with _connected(server, token_file) as client:
        for one in islice(client.searches(owner=mine), most):
            asked = one.request
            named = "" if one.name is None else f"{one.name}: "
            goal = f"{', '.join(asked.budgets)} on {', '.join(asked.targets)}, {asked.data}"
            created = f"{one.created:%Y-%m-%d %H:%M}"
            table.add_row(one.id, named + goal, one.owner, created, one.status)
    out.print(table)


def cancel(
    search: SearchArgument, server: ServerOption = None, token_file: TokenOption = None
) -> None:
    """Cancel a service's search that waits or runs. Finished stages are kept.

    **Example:** `nas cancel 3f0c9a51d2b7e684`
    """
    with _connected(server, token_file) as client:
        client.cancel(_id(search))
    out.print(f"search {search} is cancelled; `nas retry {search}` takes it up again")


def retry(
    search: SearchArgument, server: ServerOption = None, token_file: TokenOption = None
) -> None:
    """Queue a failed or cancelled search of a service again; finished stages are reused.

    **Example:** `nas retry 3f0c9a51d2b7e684`
    """
    with _connected(server, token_file) as client:
        client.retry(_id(search))
    out.print(f"search {search} is queued again")


@contextmanager
def _connected(server: str | None, token_file: Path | None) -> Iterator[ServiceClient]:
    from latency.connection import RefusedError, UnreachableError, read_token
    from nas.service.client import ServiceClient

    url = server or server_url()
    token = secret("NAS_TOKEN") if token_file is None else read_token(token_file)
    with ServiceClient(url, token) as client:
        if token is not None and _is_overheard(url):
            sys.stderr.write(f"warning: the token is sent to {url} unencrypted; use https://\n")
        try:
            yield client
        except UnreachableError as error:
            raise NasError(
                f"{error}: start one with `nas serve`, or name another by --server or NAS_SERVER"
            ) from error
        except RefusedError as error:
            if error.status != 401:
                raise
            raise NasError(
                f"{error}: give one by --token-file, NAS_TOKEN or NAS_TOKEN_FILE"
            ) from error


def _is_overheard(url: str) -> bool:
    """Whether other machines can read what is sent to an address."""
    from nas.service.settings import is_loopback

    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def _id(search: str) -> str:
    """The id itself, if it is one: it becomes part of a URL's path."""
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", search):
        raise NasError(f"search {search!r} is no id: letters, digits and hyphens")
    return search


def _named_or_read(kind: str, name: str) -> str | dict[Any, Any]:
    """The name, or the content of the local YAML file that it is the path of."""
    from supernet.configs import read_mapping

    if Path(name).suffix in (".yaml", ".yml"):
        return read_mapping(Path(name), f"{kind} {name}")
    return name


def _known_data(client: ServiceClient, data: str) -> str:
    """The name of a data set of the service; a local file or folder is uploaded first."""
    from nas.service.client.service_client import UPLOADED

    path = Path(data).expanduser()
    if data == "pydoc" or not path.exists():
        if path.suffix.lower() in UPLOADED or "/" in data:
            raise NasError(f"data {data}: no such file or folder")
        return data
    return _sent(client, "dataset", path)


def _known_teacher(client: ServiceClient, teacher: str) -> str:
    """The name of a teacher of the service; a local folder is uploaded first."""
    path = Path(teacher).expanduser()
    if not path.is_dir():
        if "/" in teacher:
            raise NasError(f"teacher {teacher}: no such folder")
        return teacher
    if not (path / CONFIG).is_file():
        raise NasError(f"teacher {teacher}: {without_model(path)}")
    return _sent(client, "teacher", path)


def _sent(client: ServiceClient, kind: UploadKind, path: Path) -> str:
    """The name of an upload. It is made of the content, so that nothing is uploaded twice."""
    from nas.service.client.service_client import content_digest

    path = path.resolve()
    stem = re.sub("[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:40].strip("-") or kind
    name = f"{stem}-{content_digest(kind, path)[:12]}"
    if not client.has_upload(kind, name):
        Display().say(f"upload    {path} as {name}")
        client.upload(kind, name, path)
    return name


def _watched(client: ServiceClient, search_id: str) -> Search:
    """Show a search until it is done, and return it.

    Raises:
        typer.Exit: it failed or was cancelled, or Ctrl-C was pressed.
    """
    from nas.commands.watching import Watcher

    search, display = client.search(_id(search_id)), Display()
    several = len(search.request.targets) > 1
    budgets = [
        f"{budget} on {target}" if several else budget
        for target in search.request.targets
        for budget in search.request.budgets
    ]
    try:
        with Watcher(display, budgets) as watcher:
            for event in client.events(search_id, lost=watcher.lost):
                watcher.show(event)
    except KeyboardInterrupt:
        display.say(f"search {search_id} goes on: `nas watch` shows it again, `nas cancel` ends it")
        raise typer.Exit(130) from None
    ended = client.search(search_id)
    if ended.status != "done":
        reason = f": {ended.error}" if ended.error else ""
        display.say(f"search {search_id} {ended.status}{reason}")
        raise typer.Exit(1)
    for model in ended.models or ():
        out.print(_in_words(model), soft_wrap=True)
    return ended


def _fetch(client: ServiceClient, search: Search, output: Path, number: int | None = None) -> None:
    if search.status != "done" or not search.models:
        raise NasError(f"search {search.id} is {search.status}: only one that is done has models")
    if number is None:
        folders = _folders(search, output)
    elif any(model.number == number for model in search.models):
        folders = {number: output}
    else:
        raise NasError(f"search {search.id} has {len(search.models)} models, and no model {number}")
    for one, folder in folders.items():
        with Display().bar(f"Download {folder}") as bar:
            client.fetch(search.id, one, folder, bar)
        out.print(f"See {folder}/report.html", soft_wrap=True)


def _folders(search: Search, output: Path) -> dict[int, Path]:
    """The folder of each model, by its number; `nas search` would have made the same ones.

    Raises:
        NasError: a budget or target of no form that could be a folder's name.
    """
    from nas.service.settings import NAME

    models = search.models or []
    if len(models) == 1:
        return {models[0].number: output}
    folders = {}
    several = len({model.target for model in models}) > 1
    for model in models:
        Budget.parse(model.budget)
        if not NAME.fullmatch(model.target):
            raise NasError(f"the server names a target {model.target!r}, which cannot be")
        name = f"{model.target}-{model.budget}" if several else model.budget
        folders[model.number] = output / name
    return folders


def _in_words(model: Model) -> str:
    return (
        f"{model.budget} on {model.target}: {Architecture.from_dict(model.architecture)}, "
        f"{model.measured_ms:.3g} ms measured against {model.budget_ms:.3g} ms asked "
        f"(p{model.percentile}), {model.speedup:.1f}x the teacher's speed, "
        f"{model.metric} {model.score:.4f} (the teacher's {model.teacher_score:.4f})"
    )
