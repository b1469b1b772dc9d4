"""``pmae keys``: works on the database directly, so that it can create the first admin's key."""

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
    """Roles of a key; each includes the permissions of those before it."""

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
        int | None, typer.Option(help="Days until it expires; default: never.")
    ] = None,
) -> None:
    """Create a key and print it; it cannot be shown again."""
    try:
        request = ApiKeyRequest.model_validate(
            {"name": name, "role": role.value, "expires_days": expires_days}
        )
    except ValidationError as error:
        raise CommandError(faults(error)[0]) from error
    with _transaction() as session:
        made = service.create_key(session, request, created_by=None)
    note = f"the key of {name}, with the role {role.value}. Keep it: it cannot be shown again."
    explaining.print(note, highlight=False, markup=False, soft_wrap=True)
    typer.echo(made.key)


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys. Their secrets are not stored."""
    with _transaction() as session:
        found = service.list_keys(session)
    if as_json:
        print_json(found)
        return
    if not found:
        explaining.print("there is no key; `pmae keys create NAME --role admin` creates one")
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
    """Revoke a key, its browser sessions and its download links at once."""
    with _transaction() as session:
        service.revoke_key(session, name)
    console.print(f"the key of {name} is revoked", highlight=False, markup=False)


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
