"""Points that an older worker wrote are found and shown again; so is a checkpoint that is gone."""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, update
from sqlalchemy.orm import Session, sessionmaker

from api.db import run_states
from api.db.check import find_missing_checkpoints, find_wrong_blocks, repair_blocks
from api.db.metric_blocks import summarise
from api.db.run_states import Claim
from api.db.settings import ServiceSettings
from api.db.tables import CheckpointRow, MetricBlockRow, MetricRow, RunRow
from api.metrics.series import get_metrics
from pmae.presets import get_preset
from pmae.runs.events import MetricsEvent
from pmae.runs.layout import LeaseDir, RunDir
from pmae.spec import resolve
from tests.api.db.test_metric_blocks import add_run, expected_blocks, found_blocks, points_of
from tests.support.commands import installed_metadata, run_pmae
from worker.recording.recorder import Recorder

Sessions = sessionmaker[Session]


def write(sessions: Sessions, points: list[dict[str, object]], *, older: bool) -> None:
    """Write points of one run as a worker does; an ``older`` one knows nothing of blocks."""
    with sessions.begin() as session:
        session.execute(insert(MetricRow), points)
        if not older:
            names = {str(point["name"]) for point in points}
            summarise(session, int(str(points[0]["run_number"])), names, 0, 10**9)


def shown(sessions: Sessions, number: int) -> int:
    """How many points the API gives out."""
    with sessions() as session:
        (metrics,) = get_metrics(session, {number: "a"}, names=None, max_points=1_000)
    return sum(series.total for series in metrics.series)


def test_what_an_older_worker_wrote_is_found_and_repaired(sessions: Sessions) -> None:
    """The first part by a worker that knew of blocks, or by the migration; then the older one."""
    whole, half, none = (add_run(sessions) for _ in range(3))
    points = {
        number: points_of(number, ("loss", "lr"), seed=number) for number in (whole, half, none)
    }
    write(sessions, points[whole], older=False)
    write(sessions, points[half][:70], older=False)
    write(sessions, points[half][70:], older=True)
    write(sessions, points[none], older=True)
    assert shown(sessions, half) == 70
    assert shown(sessions, none) == 0

    found = list(find_wrong_blocks(sessions))
    assert [(each.number, each.shown, each.points) for each in found] == [
        (half, 70, len(points[half])),
        (none, 0, len(points[none])),
    ]
    for wrong in found:
        repair_blocks(sessions, wrong)
    assert list(find_wrong_blocks(sessions)) == []
    for number, some in points.items():
        assert found_blocks(sessions, number) == expected_blocks(some)
        assert shown(sessions, number) == len(some)


def test_blocks_of_no_points_and_of_other_values_go(sessions: Sessions) -> None:
    number = add_run(sessions)
    points = points_of(number, ["loss"])
    write(sessions, points, older=False)
    with sessions.begin() as session:
        session.execute(delete(MetricRow).where(MetricRow.step >= 256))
        session.execute(
            update(MetricRow).where(MetricRow.step == points[0]["step"]).values(value=99)
        )
    (wrong,) = find_wrong_blocks(sessions)
    assert wrong.blocks == {"loss": (0, 4)}
    repair_blocks(sessions, wrong)
    assert list(find_wrong_blocks(sessions)) == []
    points[0]["value"] = 99.0
    assert found_blocks(sessions, number) == expected_blocks(
        point for point in points if point["step"] < 256
    )


@pytest.fixture
def claimed(sessions: Sessions) -> Claim:
    with sessions.begin() as session:
        run_states.submit(session, spec=resolve(get_preset("quickstart").spec))
        found = run_states.claim(session, worker="w1", lease_seconds=600)
    assert found is not None
    return found


def test_a_repair_beside_a_worker_that_records_loses_nothing(
    sessions: Sessions, claimed: Claim, tmp_path: Path
) -> None:
    """Both write blocks of the same run; whatever the order, they agree with the points."""
    lease = LeaseDir(tmp_path, 1)
    lines = [
        MetricsEvent(step=step, epoch=step / 10, values={"loss": random.random()})
        .model_dump_json()
        .encode()
        for step in range(1, 3_000)
    ]
    recorder = Recorder(sessions, claimed, lease)
    failed: list[BaseException] = []

    def record() -> None:
        try:
            for start in range(0, len(lines), 100):
                with lease.events.open("ab") as file:
                    file.write(b"\n".join(lines[start : start + 100]) + b"\n")
                recorder.record_all()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    older = points_of(claimed.number, ["lr"])
    write(sessions, older, older=True)
    thread = threading.Thread(target=record)
    thread.start()
    rounds = 0
    while thread.is_alive() or rounds == 0:
        with sessions.begin() as session:
            session.execute(
                delete(MetricBlockRow).where(MetricBlockRow.run_number == claimed.number)
            )
        for wrong in find_wrong_blocks(sessions):
            repair_blocks(sessions, wrong)
        rounds += 1
    thread.join()
    assert failed == []
    for wrong in find_wrong_blocks(sessions):
        repair_blocks(sessions, wrong)
    assert shown(sessions, claimed.number) == len(lines) + len(older)


def test_a_run_that_is_deleted_meanwhile_is_left(sessions: Sessions) -> None:
    number = add_run(sessions)
    write(sessions, points_of(number, ["loss"]), older=True)
    (wrong,) = find_wrong_blocks(sessions)
    with sessions.begin() as session:
        session.execute(update(RunRow).values(deleted_at=1.0))
    repair_blocks(sessions, wrong)
    assert found_blocks(sessions, number) == {}
    assert list(find_wrong_blocks(sessions)) == []


def add_checkpoint(sessions: Sessions, number: int, name: str, runs_dir: Path | None) -> Path:
    """A checkpoint of an ended run; without ``runs_dir`` nothing of it is on the disk."""
    with sessions.begin() as session:
        run_id = session.scalar(
            update(RunRow)
            .where(RunRow.number == number)
            .values(state="failed")
            .returning(RunRow.id)
        )
        session.add(
            CheckpointRow(
                id=f"{run_id}-{name}",
                run_number=number,
                name=name,
                kind="kept",
                lease_number=2,
                step=1,
                epoch=1.0,
                created_at=1.0,
                files={},
                metrics={},
            )
        )
    folder = RunDir((runs_dir or Path("/nowhere")) / str(run_id)).lease(2).checkpoints / name
    if runs_dir is not None:
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
    return folder


@pytest.fixture
def check(database_url: str, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``pmae db check``."""
    environment = {"PMAE_DATABASE_URL": database_url, "PMAE_HOME": str(tmp_path)}
    environment |= installed_metadata(tmp_path / "site")
    return lambda *options: run_pmae(["db", "check", *options], environment)


def test_the_command(
    check: Callable[..., subprocess.CompletedProcess[str]], sessions: Sessions, tmp_path: Path
) -> None:
    settings = ServiceSettings(home=tmp_path)
    number, other = add_run(sessions), add_run(sessions)
    add_checkpoint(sessions, other, "step-00000001", settings.runs_dir)
    sound = check()
    assert (sound.returncode, sound.stdout) == (0, "")
    assert "no fault" in sound.stderr

    points = points_of(number, ("loss", "lr"))
    write(sessions, points, older=True)
    gone = add_checkpoint(sessions, other, "step-00000002", None)
    assert [each.name for each in find_missing_checkpoints(sessions, settings.runs_dir)] == [
        gone.name
    ]
    bad = check()
    assert bad.returncode == 1
    assert f"0 of {len(points)} points are shown: loss, lr" in bad.stdout
    assert f"{gone.name} is gone" in bad.stdout
    assert "pmae db check --repair" in bad.stderr
    assert shown(sessions, number) == 0, "it only looked"

    repaired = check("--repair")
    assert repaired.returncode == 1, "files do not come back"
    assert "repaired" in repaired.stdout
    assert "restore the files from a backup" in repaired.stderr
    assert shown(sessions, number) == len(points)
    with sessions.begin() as session:
        session.execute(delete(CheckpointRow).where(CheckpointRow.name == gone.name))
    assert check("--repair").returncode == 0
