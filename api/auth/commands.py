"""``pmae keys``: works on the database, so that there is a way to the first admin's key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from sqlalchemy.orm import Session

from api.auth import service
from api.db.command_database import command_database, command_settings
from api.db.session import make_sessions
from pmae.cli.options import AsJson
from pmae.cli.output import print_json, print_table
from pmae.errors import CommandError
from pmae.schema.access import ApiKey, ApiKeyRequest
from pmae.spec.messages import faults

keys = typer.Typer(
    help="API keys, in the database of the service that PMAE_HOME, PMAE_DATABASE_HOST or "
    "PMAE_DATABASE_URL names.",
    no_args_is_help=True,
)
console = Console()
explaining = Console(stderr=True)

KeyName = Annotated[str, typer.Argument(help="A person's or a program's name.")]


class RoleChoice(StrEnum):
    """What a key may do; each what those before it may."""

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    ADMIN = "admin"


@keys.command()
def create(
    name: KeyName,
    role: Annotated[
        RoleChoice,
        typer.Option(
            help="viewer reads; submitter also submits, and changes what it submitted; admin does "
            "everything."
        ),
    ],
    expires_days: Annotated[
        int | None, typer.Option(help="Days until it ends; default: it does not.")
    ] = None,
) -> None:
    """Make a key and print it, this once."""
    try:
        request = ApiKeyRequest.model_validate(
            {"name": name, "role": role.value, "expires_days": expires_days}
        )
    except ValidationError as error:
        raise CommandError(faults(error)[0]) from error
    with _transaction() as session:
        made = service.create_key(session, request, created_by=None)
    told = f"the key of {name}, whose role is {role.value}. Keep it: it cannot be shown again."
    explaining.print(told, highlight=False, markup=False, soft_wrap=True)
    typer.echo(made.key)


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """Say which keys there are; their secrets are not kept."""
    with _transaction() as session:
        found = service.list_keys(session)
    if as_json:
        print_json(found)
        return
    if not found:
        explaining.print("there is no key; `pmae keys create NAME --role admin` makes one")
    rows = [
        (
            key.name,
            key.role,
            key.id,
            key.created_at,
            key.created_by or "command line",
            key.last_used_at or "never",
            _holds(key),
        )
        for key in found
    ]
    columns = ("name", "role", "id", "made", "by", "last used", "holds")
    print_table(columns, rows, flexible=("name", "by"), spare=("by", "made", "last used"))


@keys.command()
def revoke(name: KeyName) -> None:
    """End a key at once, with its sessions in browsers and the download links that it made."""
    with _transaction() as session:
        service.revoke_key(session, name)
    console.print(f"the key of {name} does not hold any more", highlight=False, markup=False)


@contextmanager
def _transaction() -> Iterator[Session]:
    with command_database(command_settings()) as engine, make_sessions(engine).begin() as session:
        yield session


def _holds(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {_day(key.revoked_at)}"
    if key.expires_at is None:
        return "yes"
    verb = "until" if key.expires_at > datetime.now(UTC) else "expired"
    return f"{verb} {_day(key.expires_at)}"


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
