"""``pmae list``: which runs there are, by every filter and in every order that the service has."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

import typer

from pmae.cli.options import LOCAL_API, ApiUrl, AsJson
from pmae.cli.output import Cell, print_json, print_table, share
from pmae.client.client import connect
from pmae.schema import MOST_IN_A_PAGE, RUN_STATES, RunKind, RunPage, RunState, RunSummary
from pmae.schema.run_query import Order, run_query

LIST_COLUMNS = (
    "id", "state", "name", "method", "dataset", "epoch", "loss", "top1", "tags", "owner", "created",
)  # fmt: skip
_SPARE = ("owner", "tags", "loss", "created", "dataset", "method")


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; valid is for example 2026-01-31, or 2026-01-31T09:30 with "
            "+01:00 or Z after it (without: UTC)"
        ) from None


_State = Annotated[
    list[str] | None,
    typer.Option(help=f"Only runs in this state: {', '.join(RUN_STATES)}. Repeatable."),
]
_Kind = Annotated[RunKind | None, typer.Option(help="Only runs of this kind.")]
_Method = Annotated[str | None, typer.Option(help="Only this method, for example pmae.")]
_Dataset = Annotated[str | None, typer.Option(help="Only this data set.")]
_Tag = Annotated[
    list[str] | None, typer.Option(help="Only runs with this tag. Repeatable: with all.")
]
_Name = Annotated[str | None, typer.Option(help="Only runs whose name contains it.")]
_Text = Annotated[
    str | None,
    typer.Option(help="Only runs whose name or notes contain it, or whose id begins so."),
]
_Owner = Annotated[
    str | None, typer.Option(help="Only runs that the API key of this name submitted.")
]
_Pinned = Annotated[
    bool | None, typer.Option("--pinned/--no-pinned", help="Only pinned runs, or only others.")
]


def _time_option(help_text: str) -> object:
    return typer.Option(parser=_moment, metavar="TIME", help=help_text)


_CreatedAfter = Annotated[datetime | None, _time_option("Submitted then or later.")]
_CreatedBefore = Annotated[datetime | None, _time_option("Submitted before then.")]
_FinishedAfter = Annotated[datetime | None, _time_option("Ended then or later.")]
_FinishedBefore = Annotated[datetime | None, _time_option("Ended before then.")]
_Metric = Annotated[
    list[str] | None, typer.Option(help="Only runs within a bound: 'val_loss<0.5'. Repeatable.")
]
_Sort = Annotated[
    str | None, typer.Option(help="created, name, top1, finished, priority or metric:NAME.")
]
_Order = Annotated[Order | None, typer.Option(help="Of --sort: rising or falling (default).")]
_Limit = Annotated[int, typer.Option(min=1, max=MOST_IN_A_PAGE, help="Most runs.")]


def list_runs(
    state: _State = None,
    kind: _Kind = None,
    method: _Method = None,
    dataset: _Dataset = None,
    tag: _Tag = None,
    name: _Name = None,
    text: _Text = None,
    owner: _Owner = None,
    pinned: _Pinned = None,
    created_after: _CreatedAfter = None,
    created_before: _CreatedBefore = None,
    finished_after: _FinishedAfter = None,
    finished_before: _FinishedBefore = None,
    metric: _Metric = None,
    sort: _Sort = None,
    order: _Order = None,
    limit: _Limit = 50,
    everything: Annotated[bool, typer.Option("--all", help="All, without a limit.")] = False,
    ids: Annotated[bool, typer.Option("--ids", "-q", help="Print only ids.")] = False,
    as_json: AsJson = False,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """List runs, newest first."""
    query = run_query(
        state=_states(state),
        kind=kind,
        method=method,
        dataset=dataset,
        tag=tag,
        name=name,
        text=text,
        owner=owner,
        pinned=pinned,
        created_after=created_after,
        created_before=created_before,
        finished_after=finished_after,
        finished_before=finished_before,
        metric=metric,
        sort=sort,
        order=order,
        limit=MOST_IN_A_PAGE if everything else limit,
    )
    with connect(api_url) as client:
        page = _pages(lambda cursor: client.runs(query.page(cursor)), everything=everything)
    if as_json:
        print_json(page)
    elif ids:
        for run in page.items:
            typer.echo(run.id)
    else:
        rows = [_row(run) for run in page.items]
        print_table(LIST_COLUMNS, rows, flexible=("name", "tags"), spare=_SPARE)
        if page.next_cursor is not None:
            typer.echo(f"pmae: the first {len(page.items)}; --all lists the others too", err=True)


def _pages(ask: Callable[[str | None], RunPage], *, everything: bool) -> RunPage:
    """The first page, or all of them as one."""
    page = ask(None)
    items = [*page.items]
    while everything and page.next_cursor is not None:
        page = ask(page.next_cursor)
        items += page.items
    return RunPage(items=items, next_cursor=page.next_cursor)


def _states(given: list[str] | None) -> list[RunState]:
    wanted = [part for text in given or () for part in text.split(",") if part]
    unknown = [part for part in wanted if part not in RUN_STATES]
    if unknown:
        raise typer.BadParameter(
            f"{unknown[0]!r} is no state; valid are {', '.join(RUN_STATES)}", param_hint="--state"
        )
    return [state for state in RUN_STATES if state in wanted]


def _row(run: RunSummary) -> tuple[Cell, ...]:
    loss = run.last_metrics.get("loss")
    return (
        run.id,
        run.state,
        run.name,
        run.method,
        run.dataset,
        epochs(run),
        "" if loss is None else f"{loss:.4f}",
        share(run.top1),
        ",".join(run.tags),
        run.owner or "",
        run.created_at,
    )


def epochs(run: RunSummary) -> str:
    """How many of its epochs are done; nothing before the first tells."""
    progress = run.progress
    if progress.epoch is None or progress.total_epochs is None:
        return ""
    return f"{progress.epoch}/{progress.total_epochs}"
