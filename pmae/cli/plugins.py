"""Commands that other packages add to ``pmae``, through the entry-point group ``pmae.commands``.

An entry point's name is the command's, or ``group.command`` for one in a group that is here
(``worker.run``); its value is a :class:`typer.Typer` of one command, or of a group (``keys``).
It is loaded when its command is asked for, so that what a command needs (SQL, torch) slows no other
one down, and one that cannot be loaded breaks no other one.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from pmae.errors import CommandError

GROUP = "pmae.commands"
PANEL = "Administration"
"""Of the help: what is added needs more than an address of the service."""


class PluginGroup(TyperGroup):
    """A group of commands, and those that entry points add to it."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The group's own commands, then the added ones by name."""
        own = super().list_commands(ctx)
        return [*own, *sorted(set(_added(_prefix(self, ctx))) - set(own))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by its name; None if there is none.

        Raises:
            CommandError: it cannot be loaded.
        """
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        found = _added(_prefix(self, ctx)).get(cmd_name)
        if found is None:
            return None
        command = typer.main.get_command(load(found))
        command.name = cmd_name
        if ctx.parent is None and isinstance(command, TyperCommand | TyperGroup):
            command.rich_help_panel = PANEL
        return command


def load(entry_point: EntryPoint) -> typer.Typer:
    """What an entry point names.

    Raises:
        CommandError: a package that it needs is not installed, or it is no Typer application.
    """
    try:
        found = entry_point.load()
    except ImportError as error:
        # Each of this project's packages is an extra of its own name.
        extra = entry_point.module.partition(".")[0]
        command = entry_point.name.replace(".", " ")
        raise CommandError(
            f"the command {command} cannot be loaded: {error}. pip install 'pmae[{extra}]' brings "
            f"what it needs; in a compose deployment: docker compose exec {extra} pmae {command}"
        ) from error
    if not isinstance(found, typer.Typer):
        raise CommandError(
            f"the entry point {entry_point.name} = {entry_point.value} is no typer.Typer"
        )
    return found


def _prefix(group: TyperGroup, ctx: Any) -> str:
    return "" if ctx.parent is None else f"{group.name}."


def _added(prefix: str) -> dict[str, EntryPoint]:
    """The entry points directly below ``prefix``, by command."""
    names = {
        entry_point.name.removeprefix(prefix): entry_point
        for entry_point in entry_points(group=GROUP)
        if entry_point.name.startswith(prefix)
    }
    return {name: found for name, found in names.items() if "." not in name}
