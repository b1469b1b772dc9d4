"""``pmae list``: its filters and orders are those of the service."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime

import pytest

from pmae.cli.runs.listing import LIST_COLUMNS, list_runs
from pmae.schema import RunPage
from pmae.schema.run_query import RunQuery
from pmae.spec import ExperimentSpec
from tests.api.live import LiveApi
from tests.pmae.cli.conftest import TERMINAL, Command


def test_a_list_in_a_pipe_has_a_line_a_run_whole_and_without_colours(
    api: LiveApi, pmae: Command
) -> None:
    name = "a name that is so long that a terminal of 80 columns would have to cut it [bold]"
    run = api.add_run(name=name, state="running", last_metrics={"loss": 0.25}, top1=0.5)
    done = pmae("list", COLUMNS="40")
    assert (done.returncode, done.stderr) == (0, "")
    header, row = (line.split("\t") for line in done.stdout.splitlines())
    assert tuple(header) == LIST_COLUMNS
    shown = dict(zip(header, row, strict=True))
    assert (shown["id"], shown["name"], shown["state"]) == (run.id, name, "running")
    assert (shown["loss"], shown["top1"]) == ("0.2500", "50.0%")


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_on_a_terminal_ids_and_states_are_whole_however_narrow_it_is(
    api: LiveApi, pmae: Command, width: int
) -> None:
    names = ["a name that goes over several lines " * 3, "ratio 0.3"]
    dataset = {"dataset": {"name": "fashion_mnist"}}
    runs = [
        api.add_run(ExperimentSpec.model_validate(dataset), name=name, state="succeeded", top1=0.5)
        for name in names
    ]
    done = pmae("list", **TERMINAL, COLUMNS=str(width))
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= width
    for run in runs:
        (line,) = (line for line in lines if run.id in line)
        assert line.split()[:2] == [run.id, "succeeded"]
    assert "name" in lines[0]
    assert "tags" not in lines[0], "none has any"
    assert ("created" in lines[0]) == ("created" not in done.stderr)
    api.add_checkpoint(runs[0], {"model.safetensors": b"w"})
    shown = pmae("checkpoints", runs[0].id, **TERMINAL, COLUMNS=str(width)).stdout.splitlines()
    assert max(map(len, shown)) <= width
    assert shown[-1].split()[:2] == [f"{runs[0].id}-00000640", "kept"]


def test_a_time_on_a_terminal_is_short(api: LiveApi, pmae: Command) -> None:
    now = datetime.now(UTC)
    api.add_run(created_at=now.timestamp())
    api.add_run(created_at=now.replace(year=2001, day=3, month=4, hour=12).timestamp())
    shown = pmae("list", **TERMINAL, COLUMNS="200").stdout
    assert f"{now.astimezone():%d %b %H:%M}" in shown
    assert "2001-04-03" in shown


def test_filters_limits_and_json(api: LiveApi, pmae: Command) -> None:
    runs = [api.add_run(state=state) for state in ("queued", "failed", "succeeded")]
    found = pmae("list", "--state", "failed", "--state", "succeeded", "--ids")
    assert found.stdout.split() == [runs[2].id, runs[1].id]
    page = RunPage.model_validate_json(pmae("list", "--limit", "2", "--json").stdout)
    assert [run.id for run in page.items] == [runs[2].id, runs[1].id]
    assert page.next_cursor is not None
    whole = RunPage.model_validate_json(pmae("list", "--all", "--json").stdout)
    assert len(whole.items) == 3
    assert whole.next_cursor is None
    more = pmae("list", "--limit", "1")
    assert "--all lists the others too" in more.stderr
    wrong = pmae("list", "--state", "lost")
    assert wrong.returncode == 2
    assert "queued, running" in wrong.stderr
    assert pmae("list", "--dataset", "digits", "--method", "mae", "-q").stdout == ""
    bad = pmae("list", "--metric", "loss=3")
    assert bad.returncode == 1
    assert "val_loss<0.5" in bad.stderr


def test_the_command_takes_all_that_the_service_takes() -> None:
    served = set(RunQuery.model_fields)
    own = {"everything", "ids", "as_json", "api_url"}
    assert set(inspect.signature(list_runs).parameters) - own == served - {"cursor"}


def test_each_filter_and_order_has_the_name_that_the_service_has(
    api: LiveApi, pmae: Command
) -> None:
    day = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    one = api.add_run(
        name="Alpha",
        owner="ada",
        pinned=True,
        tags=["paper"],
        created_at=day,
        finished_at=day + 3600,
        last_metrics={"val_loss": 0.4},
    )
    two = api.add_run(
        name="beta",
        notes="as alpha",
        kind="evaluate",
        method="mae",
        dataset="clevr",
        created_at=day + 86_400,
        last_metrics={"val_loss": 0.2},
    )

    def listed(*arguments: str) -> list[str]:
        done = pmae("list", "-q", *arguments)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout.split()

    assert listed() == [two.id, one.id]
    for only_one in (
        ["--kind", "pretrain"],
        ["--method", "pmae"],
        ["--dataset", "digits"],
        ["--tag", "paper"],
        ["--name", "ALPHA"],
        ["--text", one.id[:6]],
        ["--owner", "ada"],
        ["--pinned"],
        ["--created-before", "2026-03-02"],
        ["--finished-after", "2026-03-01T02:00+01:00", "--finished-before", "2026-03-01T01:00:01Z"],
        ["--metric", "val_loss>0.3"],
        ["--sort", "created", "--order", "asc", "--limit", "1"],
    ):
        found = listed(*only_one)
        assert found == [one.id], only_one
    assert listed("--no-pinned") == [two.id]
    assert listed("--text", "alpha") == [two.id, one.id], "in its notes"
    assert listed("--created-after", "2026-03-02T00:00") == [two.id], "UTC"
    assert listed("--finished-after", "2026-03-01T02:01+01:00") == []
    assert listed("--sort", "metric:val_loss", "--order", "asc") == [two.id, one.id]
    assert listed("--sort", "metric:val_loss", "--order", "desc", "--all") == [one.id, two.id]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--kind", "training"], ["pretrain", "evaluate"]),
        (["--order", "up"], ["asc", "desc"]),
        (["--created-after", "yesterday"], ["2026-01-31"]),
    ],
)
def test_what_is_no_value_of_a_filter_is_told_with_what_would_be(
    pmae: Command, arguments: list[str], told: list[str]
) -> None:
    done = pmae("list", *arguments)
    assert done.returncode == 2
    assert all(word in done.stderr for word in told)
