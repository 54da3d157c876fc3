"""``nas admin``: what an operator does on the service's own machine, without HTTP."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from latency.atomic import replacing
from nas.commands.options import out
from nas.commands.serving import ConfigOption, DatabaseOption, DataFolderOption
from supernet.errors import NasError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from nas.service.settings import ServiceSettings

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look after a service, on a machine that reaches its database and data folder.",
)
token_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Tokens of the service's users."
)
app.add_typer(token_app, name="token")


@app.callback()
def begin() -> None:
    """Let only the service's own user read the files that these commands write."""
    os.umask(0o077)


@token_app.command("create")
def create(
    owner: Annotated[
        str, typer.Option(help="The user's name, under which their searches are listed.")
    ],
    scope: Annotated[
        list[str],
        typer.Option(
            help="What the token allows; give it several times for several scopes: `read` to see, "
            "`submit` to start, cancel and upload, `device` for a device's agent, `admin` for "
            "everything."
        ),
    ],
    days: Annotated[float, typer.Option(help="Days until the token expires; 0 for never.")] = 90.0,
    config: ConfigOption = None,
    data: DataFolderOption = None,
    database: DatabaseOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write the token to this file, which only you can read, and print nothing."
        ),
    ] = None,
) -> None:
    """Make a token and print it. It is not shown again.

    **Example:** `nas admin token create --owner ada --scope read --output ada.token`
    """
    from pydantic import TypeAdapter, ValidationError

    from nas.service.access.tokens import create_token
    from nas.service.api.tokens import Owner

    try:
        TypeAdapter(Owner).validate_python(owner)
    except ValidationError as error:
        raise NasError(
            f"owner {owner!r} must be at most 64 lower-case letters, digits and ._@-"
        ) from error

    def make() -> str:
        with _opened(config, data, database) as (_, engine):
            token_id, token = create_token(engine, owner, scope, days=days or None)
            _noted(engine, "token create", f"{token_id} of {owner}")
            return token

    if output is None:
        _for_its_owner_alone()
        out.print(make(), soft_wrap=True)
        return
    if output.exists():
        raise NasError(f"output {output} exists: choose another name, or remove it first")
    try:
        with replacing(output, mode=0o600) as file:
            file.write_text(f"{make()}\n", encoding="ascii")
    except OSError as error:
        raise NasError(f"output {output} cannot be written: {error.strerror}") from error


def _for_its_owner_alone() -> None:
    """If standard output is a file, let only its owner read it."""
    with suppress(OSError, ValueError):  # no file, or none of ours
        number = sys.stdout.fileno()
        if stat.S_ISREG(os.fstat(number).st_mode):
            os.fchmod(number, 0o600)


def _noted(engine: Engine, action: str, subject: str) -> None:
    """Record an operator's command in the audit log, as requests are recorded."""
    from nas.service.access.audit import OPERATOR, record

    record(engine, OPERATOR, f"nas admin {action}", subject, 200, request_id="", address="")


@token_app.command("list")
def list_tokens(
    config: ConfigOption = None, data: DataFolderOption = None, database: DatabaseOption = None
) -> None:
    """List the tokens, newest first. Of each token only a hash is kept.

    **Example:** `nas admin token list`
    """
    import sqlalchemy as sa

    from nas.service.database.tables import tokens

    table = Table("id", "owner", "scopes", "made (UTC)", "state")
    with _opened(config, data, database) as (_, engine), engine.connect() as connection:
        for row in connection.execute(sa.select(tokens).order_by(tokens.c.created.desc())):
            if row.revoked is not None:
                state = f"revoked {_day(row.revoked)}"
            elif row.expires is None:
                state = "never expires"
            else:
                state = (
                    f"{'expires' if row.expires > time.time() else 'expired'} {_day(row.expires)}"
                )
            table.add_row(row.id, row.owner, " ".join(row.scopes), _day(row.created), state)
    out.print(table)


@token_app.command("revoke")
def revoke(
    token_id: Annotated[
        str, typer.Argument(help="The token's id, as `nas admin token list` shows it.")
    ],
    config: ConfigOption = None,
    data: DataFolderOption = None,
    database: DatabaseOption = None,
) -> None:
    """Revoke a token: it is refused within two seconds.

    **Example:** `nas admin token revoke 5b1c09d2f8a3e746`
    """
    from nas.service.access.tokens import revoke_token

    with _opened(config, data, database) as (_, engine):
        if not revoke_token(engine, token_id):
            raise NasError(f"no token {token_id} is in force")
        _noted(engine, "token revoke", token_id)
    out.print(f"token {token_id} is revoked")


@app.command()
def migrate(
    config: ConfigOption = None, data: DataFolderOption = None, database: DatabaseOption = None
) -> None:
    """Bring the database's tables up to date, as `nas serve` and `nas worker` do when they start.

    **Example:** `nas admin migrate --config team`
    """
    from nas.service.jobs.worker import migrate_all

    with _opened(config, data, database) as (settings, engine):
        migrate_all(settings, engine)
    out.print("the database is up to date")


@app.command()
def backup(
    archive: Annotated[Path, typer.Argument(help="The `.tar.gz` file to write.")],
    workspace: Annotated[
        bool,
        typer.Option("--workspace", help="Also copy finished stages, which can be computed again."),
    ] = False,
    config: ConfigOption = None,
    data: DataFolderOption = None,
    database: DatabaseOption = None,
) -> None:
    """Copy the database, results, uploads and profiles into one file. The service may run.

    **Example:** `nas admin backup /backups/tailorbert-$(date +%F).tar.gz`
    """
    from nas.service.settings import load_service
    from nas.service.upkeep.backup import back_up

    if archive.exists():
        raise NasError(f"backup {archive} exists: choose another name")
    settings = load_service(config, data=data, database=database)
    manifest = back_up(settings, archive, workspace=workspace)
    size = archive.stat().st_size / 1e6
    out.print(f"{archive}: {len(manifest['files'])} files, {size:.1f} MB", soft_wrap=True)


@app.command()
def restore(
    archive: Annotated[Path, typer.Argument(help="A file that `nas admin backup` wrote.")],
    config: ConfigOption = None,
    data: DataFolderOption = None,
    database: DatabaseOption = None,
) -> None:
    """Restore a service from a backup, into a new data folder and a new database.

    **Example:** `nas admin restore tailorbert-2025-06-01.tar.gz --data /srv/tailorbert`
    """
    from nas.service.settings import load_service
    from nas.service.upkeep.backup import restore as bring_back

    settings = load_service(config, data=data, database=database)
    manifest = bring_back(settings, archive)
    out.print(
        f"{len(manifest['files'])} files of {manifest['created']} are back in {settings.data}",
        soft_wrap=True,
    )


@app.command()
def collect(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be deleted.")
    ] = False,
    config: ConfigOption = None,
    data: DataFolderOption = None,
    database: DatabaseOption = None,
) -> None:
    """Delete now what the settings' `retention` no longer keeps; the service does so every hour.

    **Example:** `nas admin collect --dry-run`
    """
    from nas.service.upkeep.retention import collect as let_go

    with _opened(config, data, database) as (settings, engine):
        collected = let_go(settings, engine, dry_run=dry_run)
    for kind, names in (
        ("models of search", collected.models),
        ("artifact", collected.artifacts),
        ("left over", collected.leftovers),
    ):
        for name in names:
            out.print(f"{kind} {name}", soft_wrap=True)
    for table, count in collected.rows.items():
        out.print(f"{count} {table}")
    for what in collected.busy:
        out.print(f"the {what} is in use and was left alone")
    verb = "would be" if dry_run else "are"
    out.print(f"{collected.bytes / 1e6:.1f} MB {verb} free again")


@contextmanager
def _opened(
    config: str | None, data: Path | None, database: str | None
) -> Iterator[tuple[ServiceSettings, Engine]]:
    """The service's settings, and its database with its tables up to date."""
    from nas.service.database.engine import open_database
    from nas.service.database.revisions import migrate as bring_up_to_date
    from nas.service.settings import load_service

    settings = load_service(config, data=data, database=database)
    engine = open_database(settings.database_url)
    try:
        bring_up_to_date(engine)
        yield settings, engine
    finally:
        engine.dispose()


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
