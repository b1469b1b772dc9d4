"""Table of all commands, by section of ``pmae --help``."""

from __future__ import annotations

from collections.abc import Callable

import typer

from pmae.cli.checkpoints.evaluate import evaluate
from pmae.cli.checkpoints.files import checkpoint_app, checkpoints, download
from pmae.cli.checkpoints.pictures import filmstrip, reconstruct
from pmae.cli.local.data import data_app
from pmae.cli.local.presets import presets
from pmae.cli.local.table import table
from pmae.cli.local.up import demo, up
from pmae.cli.plugins import PluginGroup
from pmae.cli.runs.actions import cancel, delete, metrics, rerun, resume, show
from pmae.cli.runs.change import change, history
from pmae.cli.runs.follow import logs, watch
from pmae.cli.runs.listing import list_runs
from pmae.cli.runs.submit import submit, train
from pmae.cli.service.status import queue, status, workers
from pmae.cli.service.worker import worker_app

RUNS, CHECKPOINTS, SERVICE, LOCAL = "Runs", "Checkpoints", "The service", "On this machine"

_Command = Callable[..., None]
_COMMANDS: tuple[tuple[str, str, _Command], ...] = (
    (RUNS, "submit", submit),
    (RUNS, "list", list_runs),
    (RUNS, "show", show),
    (RUNS, "watch", watch),
    (RUNS, "logs", logs),
    (RUNS, "metrics", metrics),
    (RUNS, "filmstrip", filmstrip),
    (RUNS, "history", history),
    (RUNS, "change", change),
    (RUNS, "cancel", cancel),
    (RUNS, "resume", resume),
    (RUNS, "rerun", rerun),
    (RUNS, "delete", delete),
    (CHECKPOINTS, "checkpoints", checkpoints),
    (CHECKPOINTS, "download", download),
    (CHECKPOINTS, "evaluate", evaluate),
    (CHECKPOINTS, "reconstruct", reconstruct),
    (SERVICE, "status", status),
    (SERVICE, "queue", queue),
    (SERVICE, "workers", workers),
    (LOCAL, "up", up),
    (LOCAL, "demo", demo),
    (LOCAL, "train", train),
    (LOCAL, "presets", presets),
    (LOCAL, "table", table),
)

app = typer.Typer(
    help="Pretrain vision models by masking principal components.",
    cls=PluginGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _panel, _name, _command in _COMMANDS:
    app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(checkpoint_app, name="checkpoint", rich_help_panel=CHECKPOINTS)
app.add_typer(worker_app, name="worker", rich_help_panel=SERVICE)
app.add_typer(data_app, name="data", rich_help_panel=LOCAL)
