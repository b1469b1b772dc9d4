"""MLflow server with the same contents: two workers on SQLite, started as in its documentation.

``make bench-api`` installs it into a separate environment.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.api.contents import (
    BEGAN_AT,
    METRIC,
    NUM_LONG_RUNS,
    NUM_RUNS,
    values_of_series,
)
from benchmarks.api.load import Address, Client
from benchmarks.api.servers import process, wait_until_it_answers
from pmae.presets import get_preset
from tests.support.ports import free_port

EXECUTABLE = Path(sys.prefix) / "mlflow" / "bin" / "mlflow"
API = "/api/2.0/mlflow"
SAMPLES = "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval"
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
_COPIED = ("runs", "params", "tags", "latest_metrics")
"""Tables with one or more rows for each run."""


@dataclass(frozen=True)
class Mlflow:
    """A running MLflow server.

    Attributes:
        address: for clients.
        name: with its version.
        run_ids: of the runs with long series.
    """

    address: Address
    name: str
    run_ids: list[str]


@contextmanager
def running_mlflow(folder: Path) -> Iterator[Mlflow]:
    """Run a server on a database with the contents of :mod:`benchmarks.api.contents`.

    Raises:
        FileNotFoundError: it is not installed; says how to install it.
    """
    if not EXECUTABLE.exists():
        raise FileNotFoundError(f"{EXECUTABLE} is missing: `make bench-api` installs it")
    database = folder / "mlflow.sqlite3"
    with _serving(database, folder) as address:
        like = _make_run(address)
    run_ids = _fill(database, like)
    with _serving(database, folder) as address, Client(address) as client:
        yield Mlflow(address, f"MLflow {client.get('/version').decode()}", run_ids)


def create_run(client: Client) -> bytes:
    """Create a run, as MLflow's own client does."""
    body = {"experiment_id": "0", "start_time": BEGAN_AT * 1000, "run_name": "digits"}
    return client.post(f"{API}/runs/create", body)


@contextmanager
def _serving(database: Path, folder: Path) -> Iterator[Address]:
    address = Address(free_port())
    command = [str(EXECUTABLE), "server", "--host", "127.0.0.1", "--port", str(address.port)]
    command += ["--workers", "2", "--backend-store-uri", f"sqlite:///{database}"]
    command += ["--artifacts-destination", str(folder / "mlflow-artifacts")]
    with process(command, _ENVIRONMENT, log=folder / "mlflow.log") as server:
        wait_until_it_answers(server, address, "/health")
        yield address


def _make_run(address: Address) -> str:
    """Make a finished run with the parameters and latest metrics of one of ours."""
    spec = get_preset("quickstart").spec.model_dump(mode="json")
    with Client(address) as client:
        run_id: str = json.loads(create_run(client))["run"]["info"]["run_id"]
        params = [{"key": key, "value": str(value)[:500]} for key, value in _flat(spec)]
        metrics = [
            {"key": key, "value": 0.2, "timestamp": BEGAN_AT * 1000, "step": 1}
            for key in (METRIC, "val_loss", "lr", "grad_norm", "top1")
        ]
        client.post(
            f"{API}/runs/log-batch", {"run_id": run_id, "params": params, "metrics": metrics}
        )
        end = {"run_id": run_id, "status": "FINISHED", "end_time": BEGAN_AT * 1000 + 1}
        client.post(f"{API}/runs/update", end)
    return run_id


def _flat(fields: dict[str, Any], before: str = "") -> Iterator[tuple[str, object]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _fill(database: Path, like: str) -> list[str]:
    """Copy the run, write the long series, and return the ids of the runs that have one."""
    ids = [f"{index:032x}" for index in range(1, NUM_RUNS)]
    with closing(sqlite3.connect(database)) as connection:
        for table in _COPIED:
            _copy_rows(connection, table, like, ids)
        for index, run_id in enumerate(ids[:NUM_LONG_RUNS]):
            connection.execute(
                "INSERT INTO metrics (key, value, timestamp, step, is_nan, run_uuid) "  # noqa: S608 - of constants
                f"{values_of_series(index)} SELECT '{METRIC}', v, "
                f"{BEGAN_AT}000 + i * 100, i, 0, ? FROM points",
                (run_id,),
            )
        connection.commit()
        connection.execute("ANALYZE")
        connection.commit()
    return ids[:NUM_LONG_RUNS]


def _copy_rows(connection: sqlite3.Connection, table: str, like: str, ids: list[str]) -> None:
    cursor = connection.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (like,))  # noqa: S608
    place = [name for name, *_ in cursor.description].index("run_uuid")
    marks = ", ".join("?" * len(cursor.description))
    for row in cursor.fetchall():
        copies = [(*row[:place], run_id, *row[place + 1 :]) for run_id in ids]
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", copies)  # noqa: S608
