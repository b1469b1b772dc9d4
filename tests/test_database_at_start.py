"""A database that cannot be used, as the processes of the service meet it when they start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from api.db.migrate import upgrade
from api.db.revision import revisions
from api.db.session import make_engine
from tests.api.db.older import downgrade
from tests.support.commands import installed_metadata, run_pmae
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.waiting import wait_until

PASSWORD = "@%/$#:? ü'"
MODULES = ("api", "worker", "api.db.migrate")
HEAD = revisions()[-1]


def set_revision(url: str, revision: str) -> None:
    """Make it look migrated by another version."""
    engine = make_engine(url, pooled=False)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
    engine.dispose()


def environment(tmp_path: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Of a process of a lab: its API does not migrate by itself."""
    own = {
        "PMAE_HOME": str(tmp_path / "home"),
        "PMAE_BROKER_URL": f"redis+socket://{tmp_path}/no-broker.sock",
        "PMAE_API_PORT": str(free_port()),
        "PMAE_MIGRATE_ON_START": "false",
        "PMAE_REQUIRE_KEYS": "false",
    }
    return {**os.environ, **own, **settings}


def refused(module: str, tmp_path: Path, **settings: str) -> str:
    """The one line with which a process ends."""
    ended = subprocess.run(
        [sys.executable, "-m", module],
        env=environment(tmp_path, settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 1, ended.stderr
    name = module.rpartition(".")[2]
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"{name}: "), line
    return line


@pytest.mark.parametrize("module", MODULES)
def test_a_newer_schema(module: str, database_url: str, tmp_path: Path) -> None:
    set_revision(database_url, "9999")
    told = refused(module, tmp_path, PMAE_DATABASE_URL=database_url)
    assert "revision 9999, which this version (0.1.0) does not know" in told
    assert f"needs {HEAD}" in told
    assert "Update this service" in told


@pytest.mark.parametrize("module", ["api", "worker"])
def test_an_older_schema(module: str, database_url: str, tmp_path: Path) -> None:
    downgrade(database_url, "0003")
    told = refused(module, tmp_path, PMAE_DATABASE_URL=database_url)
    assert f"has the revision 0003, and this version (0.1.0) needs {HEAD}" in told
    assert "python -m api.db.migrate" in told
    assert "docker compose run --rm migrate" in told
    migrate = [sys.executable, "-m", "api.db.migrate"]
    given = environment(tmp_path, {"PMAE_DATABASE_URL": database_url})
    subprocess.run(migrate, env=given, check=True, timeout=120)


def test_an_api_that_migrates_by_itself_refuses_a_newer_schema(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'test.sqlite3'}"
    upgrade(url)
    set_revision(url, "9999")
    told = refused("api", tmp_path, PMAE_DATABASE_URL=url, PMAE_MIGRATE_ON_START="")
    assert "revision 9999" in told


@pytest.mark.parametrize("module", ["api", "worker"])
def test_an_empty_database(module: str, postgres: str, tmp_path: Path) -> None:
    url = postgres.replace("postgresql://", "postgresql+psycopg://")
    told = refused(module, tmp_path, PMAE_DATABASE_URL=url)
    assert "has no tables of this service yet" in told
    assert "python -m api.db.migrate" in told
    told = refused(module, tmp_path, PMAE_DATABASE_URL="")
    assert f"the database {tmp_path}/home/pmae.sqlite3 has no tables" in told
    assert not (tmp_path / "home").exists(), "looking for it makes none"


@pytest.mark.parametrize("module", MODULES)
def test_a_file_that_is_no_database(module: str, tmp_path: Path) -> None:
    file = tmp_path / "some.txt"
    file.write_bytes(b"not a database" * 100)
    told = refused(module, tmp_path, PMAE_DATABASE_URL=f"sqlite:///{file}")
    assert f"the database {file} cannot be used: file is not a database" in told


@pytest.mark.parametrize("command", [("keys", "list"), ("gc",)])
def test_commands_refuse_another_schema(
    command: tuple[str, ...], database_url: str, tmp_path: Path
) -> None:
    given = installed_metadata(tmp_path / "site") | {"PMAE_DATABASE_URL": database_url}
    for revision in ("0003", "9999"):
        set_revision(database_url, revision)
        done = run_pmae(command, given)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("pmae: the schema of the database")
        assert revision in line


@pytest.fixture(scope="module")
def locked() -> Iterator[PostgresServer]:
    """A server that asks for a password."""
    with postgres_server(password=PASSWORD) as server:
        yield server


@pytest.mark.parametrize("module", MODULES)
def test_a_wrong_password_is_told_once(module: str, locked: PostgresServer, tmp_path: Path) -> None:
    given = {"PMAE_DATABASE_HOST": "127.0.0.1", "PMAE_DATABASE_PORT": str(locked.port)}
    told = refused(module, tmp_path, **given, PMAE_DATABASE_PASSWORD="geheim")
    assert f"the database at 127.0.0.1:{locked.port} refused the connection: " in told
    assert 'password authentication failed for user "pmae"' in told
    assert "POSTGRES_PASSWORD in .env" in told
    assert "geheim" not in told
    told = refused(module, tmp_path, **given)
    assert "no password supplied" in told
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    given["PMAE_DATABASE_PASSWORD_FILE"] = str(tmp_path / "password")
    told = refused(module, tmp_path, **given, PMAE_DATABASE_NAME="nowhere")
    assert 'database "nowhere" does not exist' in told
    assert "PMAE_DATABASE_NAME" in told


def test_any_password_opens_the_database(locked: PostgresServer, tmp_path: Path) -> None:
    with psycopg.connect(locked.address, autocommit=True) as connection:
        connection.execute("CREATE DATABASE pmae")
    given = {
        "PMAE_DATABASE_HOST": "127.0.0.1",
        "PMAE_DATABASE_PORT": str(locked.port),
        "PMAE_DATABASE_PASSWORD": PASSWORD,
    }
    migrate = [sys.executable, "-m", "api.db.migrate"]
    subprocess.run(migrate, env=environment(tmp_path, given), check=True, timeout=120)
    with psycopg.connect(locked.address.removesuffix("/postgres") + "/pmae") as connection:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    assert found == [(HEAD,)]


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a process whose output goes to a file."""
    started: list[subprocess.Popen[bytes]] = []

    def start(module: str, **settings: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                env=environment(tmp_path, settings),
                stdout=log,
                stderr=log,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("module", ["worker", "api.db.migrate"])
def test_a_database_that_comes_later_is_waited_for(
    module: str, starting: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    server = PostgresServer()
    try:
        url = server.address.replace("postgresql://", "postgresql+psycopg://")
        process = starting(module, PMAE_DATABASE_URL=url)
        log = tmp_path / "log"
        wait_until(lambda: "waiting for it" in log.read_text(), "its waiting")
        time.sleep(2.5)  # for two more looks, of which nothing is told
        (line,) = log.read_text().splitlines()
        assert f"the database at 127.0.0.1:{server.port} does not answer: " in line
        server.start()
        if module == "worker":
            assert process.wait(timeout=60) == 1
            assert "has no tables of this service yet" in log.read_text()
        else:
            assert process.wait(timeout=60) == 0
    finally:
        server.remove()


def test_a_worker_that_waits_ends_with_a_signal(
    starting: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    away = f"postgresql+psycopg://pmae@127.0.0.1:{free_port()}/pmae"
    process = starting("worker", PMAE_DATABASE_URL=away)
    log = tmp_path / "log"
    wait_until(lambda: "waiting for it" in log.read_text(), "its waiting")
    process.terminate()
    assert process.wait(timeout=60) == 0
    assert len(log.read_text().splitlines()) == 1


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_password(module: str, tmp_path: Path) -> None:
    url = "postgresql+psycopg://pmae:change-me@postgres/pmae"
    told = refused(module, tmp_path, PMAE_DATABASE_URL=url)
    assert "POSTGRES_PASSWORD in .env" in told
    assert "openssl rand -hex 24" in told
