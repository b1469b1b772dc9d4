"""A service with runs and files, and empty ones to restore it into."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select, update
from sqlalchemy.orm import Session, sessionmaker

from api.backup.create import Made, make_backup
from api.backup.manifest import Generation, find_generation
from api.backup.restore import restore_backup
from api.backup.settle import Settled
from api.db import run_states
from api.db.clock import database_now
from api.db.metric_blocks import summarise
from api.db.session import make_engine, make_sessions
from api.db.settings import ServiceSettings
from api.db.tables import ApiKeyRow, AuditRow, Base, CheckpointRow, MetricRow, RunRow
from pmae.presets import get_preset
from pmae.runs.layout import RunDir
from pmae.spec import resolve
from tests.support.databases import Databases


@dataclass
class Service:
    """A database and folders, as the processes of a service leave them."""

    settings: ServiceSettings
    engine: Engine
    sessions: sessionmaker[Session]

    def add_run(self, state: str = "queued", **values: Any) -> RunRow:
        """A run with its spec file."""
        with self.sessions.begin() as session:
            row = run_states.submit(session, spec=resolve(get_preset("quickstart").spec))
        changes = {"state": state, **values}
        with self.sessions.begin() as session:
            session.execute(update(RunRow).where(RunRow.number == row.number).values(**changes))
        run = self.run_dir(row.id)
        run.path.mkdir(parents=True)
        run.spec.write_text("{}")
        return row

    def add_running(self, **values: Any) -> RunRow:
        """A run that a worker holds, with an event file that ends in the middle of a line."""
        facts = {"worker": "w", "lease_number": 1, "attempt": 1, **values}
        with self.sessions.begin() as session:
            now = session.scalar(select(database_now()))
        row = self.add_run("running", lease_until=(now or 0) + 60, **facts)
        lease = self.run_dir(row.id).lease(1)
        lease.path.mkdir()
        lease.events.write_bytes(b'{"type":"stage","stage":"data"}\n{"type":"sta')
        lease.log.write_text("started\n")
        return row

    def run_dir(self, run_id: str) -> RunDir:
        """Where the files of a run are."""
        return RunDir(self.settings.runs_dir / run_id)

    def add_checkpoint(
        self, run: RunRow, step: int, *, kind: str = "kept", lease: int = 1, row: bool = True
    ) -> Path:
        """A checkpoint on disk, and in the database unless ``row`` is false; its folder."""
        of_lease = self.run_dir(run.id).lease(lease)
        parent = of_lease.checkpoints if kind == "kept" else of_lease.latest
        folder = parent / f"step-{step:08d}"
        folder.mkdir(parents=True)
        content = {"model.safetensors": secrets.token_bytes(3000), "config.json": b"{}"}
        facts = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for name, data in content.items()
        }
        for name, data in content.items():
            (folder / name).write_bytes(data)
        (folder / "manifest.json").write_text(json.dumps({"name": folder.name, "files": facts}))
        if row:
            values = {"run_number": run.number, "name": folder.name, "kind": kind, "metrics": {}}
            with self.sessions.begin() as session:
                session.add(
                    CheckpointRow(
                        id=f"{run.id}-{step:08d}",
                        lease_number=lease,
                        step=step,
                        epoch=1.0,
                        created_at=1e9,
                        files=facts,
                        **values,
                    )
                )
        return folder

    def add_basis(self, digest: str) -> Path:
        """A basis and the pointer to it; its folder."""
        folder = self.settings.bases_dir / digest
        folder.mkdir(parents=True)
        (folder / "basis.safetensors").write_bytes(secrets.token_bytes(2000))
        (folder / "facts.json").write_text("{}")
        fits = folder.parent / "fits"
        fits.mkdir(exist_ok=True)
        (fits / f"{digest}-key.json").write_text(json.dumps({"basis": digest, "key": {}}))
        return folder

    def add_points(self, run: RunRow, number: int) -> None:
        """Points of one metric at the steps 1, 2, ..."""
        rows = [
            {"run_number": run.number, "name": "loss", "step": step, "epoch": 0.1, "time": 1e9}
            | {"value": 1 / step}
            for step in range(1, number + 1)
        ]
        with self.sessions.begin() as session:
            session.execute(insert(MetricRow), rows)
            summarise(session, run.number, {"loss"}, 1, number)

    def add_key(self, name: str) -> None:
        """An API key, and a line of the audit trail."""
        with self.sessions.begin() as session:
            session.add(
                ApiKeyRow(id=name, name=name, role="admin", secret_sha256="0" * 64, created_at=1e9)
            )
            session.add(
                AuditRow(
                    at=1e9,
                    actor=name,
                    operation="submit",
                    method="POST",
                    path="/runs?tab=\t&null=\\N&line=\n",
                    status=202,
                    request_id="r",
                    address="127.0.0.1",
                )
            )

    def back_up(self, folder: Path, *, keep: int | None = None) -> Made:
        """Add a generation."""
        folder.mkdir(exist_ok=True)
        return make_backup(self.engine, self.settings, folder, keep=keep, tell=_silent)

    def restore(self, folder: Path | Generation) -> Settled:
        """Restore a generation, or the newest one."""
        found = folder if isinstance(folder, Generation) else find_generation(folder)
        return restore_backup(self.engine, self.settings, found, _silent)

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table but the workers', by table."""
        with self.sessions() as session:
            return {
                name: sorted(tuple(map(str, row)) for row in session.execute(select(table)))
                for name, table in Base.metadata.tables.items()
                if name != "workers"
            }

    def files(self) -> dict[str, bytes]:
        """Every file of the artifacts, by its path."""
        root = self.settings.artifact_dir
        return {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }

    @property
    def environment(self) -> dict[str, str]:
        """For commands that work on it."""
        return {
            "PMAE_HOME": str(self.settings.home),
            "PMAE_DATABASE_URL": self.settings.sqlalchemy_url,
        }


def _silent(_line: str) -> None:
    """Nobody reads it."""


@pytest.fixture(params=["sqlite", "postgresql"])
def new_service(
    request: pytest.FixtureRequest, databases: Databases, tmp_path: Path
) -> Iterator[Callable[[], Service]]:
    """Makes services of one kind of database, migrated and empty."""
    with ExitStack() as ending:

        def make() -> Service:
            home = tmp_path / f"home-{secrets.token_hex(4)}"
            if request.param == "sqlite":
                url = databases.sqlite(home / "pmae.sqlite3")
            else:
                server = request.getfixturevalue("postgres")
                url = ending.enter_context(databases.postgresql(server))
            engine = make_engine(url, pooled=False)
            ending.callback(engine.dispose)
            settings = ServiceSettings(home=home, database_url=url)
            return Service(settings, engine, make_sessions(engine))

        yield make


@pytest.fixture
def service(new_service: Callable[[], Service]) -> Service:
    """One that is to be backed up."""
    return new_service()


@pytest.fixture
def filled(service: Service) -> Service:
    """The same with runs in several states, keys, points, checkpoints and a basis."""
    basis = service.add_basis("b" * 64)
    done = service.add_run("succeeded", lease_number=1, finished_at=1e9, basis_digest=basis.name)
    service.add_checkpoint(done, 10)
    (service.add_checkpoint(done, 20) / "pinned").touch()
    with service.sessions.begin() as session:
        pinned = CheckpointRow.id == f"{done.id}-{20:08d}"
        session.execute(update(CheckpointRow).where(pinned).values(pinned=True))
    service.add_points(done, 300)
    running = service.add_running()
    service.add_checkpoint(running, 5, kind="latest")
    service.add_points(running, 7)
    service.add_run()
    service.add_key("ada")
    return service


New = Callable[[], Service]


def change_manifest(generation: Generation, **values: Any) -> None:
    """Write other values into a manifest."""
    path = generation.folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def is_empty(service: Service) -> bool:
    with service.sessions() as session:
        runs = session.scalar(select(func.count()).select_from(RunRow))
    return runs == 0 and service.files() == {}


def flip(path: Path) -> Path:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path
