"""Commands that other packages add to ``pmae``, through the entry-point group ``pmae.commands``.

An entry point's name is the command's name, or ``group.command`` in an existing group
(``worker.run``); its value is a :class:`typer.Typer` of one command, or of a group (``keys``).
It is loaded only when its command is used: heavy imports (SQL, torch) do not slow down the other
commands, and an entry point that cannot be loaded does not break them.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from pmae.errors import CommandError

GROUP = "pmae.commands"
PANEL = "Administration"
"""Help section of the added commands, which need more than the service's address."""


class PluginGroup(TyperGroup):
    """Command group that includes the commands of entry points."""

    def list_commands(self, ctx: Any) -> list[str]:
        """List the group's own commands, then the added ones by name."""
        own = super().list_commands(ctx)
        return [*own, *sorted(set(_added(_prefix(self, ctx))) - set(own))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by its name; None if there is none.

        Raises:
            CommandError: the command cannot be loaded.
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
    """Load the Typer application of an entry point.

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
            f"the command {command} cannot be loaded: {error}. Install what it needs with pip "
            f"install 'pmae[{extra}]', or in a compose deployment use docker compose exec {extra} "
            f"pmae {command}"
        ) from error
    if not isinstance(found, typer.Typer):
        raise CommandError(
            f"the entry point {entry_point.name} = {entry_point.value} is no typer.Typer; expected "
            "an application of one command or group"
        )
    return found


def _prefix(group: TyperGroup, ctx: Any) -> str:
    return "" if ctx.parent is None else f"{group.name}."


def _added(prefix: str) -> dict[str, EntryPoint]:
    """Return the entry points directly below ``prefix``, by command."""
    names = {
        entry_point.name.removeprefix(prefix): entry_point
        for entry_point in entry_points(group=GROUP)
        if entry_point.name.startswith(prefix)
    }
    return {name: found for name, found in names.items() if "." not in name}
