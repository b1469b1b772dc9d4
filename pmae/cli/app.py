"""Which commands there are; what each does stands in the module of its idea."""

from __future__ import annotations

from collections.abc import Callable

import typer

from pmae.cli.change import change, history
from pmae.cli.checkpoints import checkpoint_app, checkpoints, download
from pmae.cli.data import data_app
from pmae.cli.evaluate import evaluate
from pmae.cli.follow import logs, watch
from pmae.cli.listing import list_runs
from pmae.cli.local import demo, up
from pmae.cli.pictures import filmstrip, reconstruct
from pmae.cli.plugins import PluginGroup
from pmae.cli.presets import presets
from pmae.cli.runs import cancel, delete, metrics, rerun, resume, show
from pmae.cli.service import queue, status, workers
from pmae.cli.submit import submit, train
from pmae.cli.table import table
from pmae.cli.worker import worker_app

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
