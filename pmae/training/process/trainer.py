"""The trainer process: ``python -m pmae.train RUN_DIR``, without SQL and HTTP.

    python -m pmae.train runs/mine --spec quickstart     # a preset's name, or a JSON or YAML file
    python -m pmae.train runs/mine                       # again: resumes from the newest checkpoint

It takes the next lease of the run (its own folder, see ``pmae.runs.layout``), resumes from the
newest valid checkpoint and writes events to ``events.jsonl``. Success is an ``end`` event. A run of
the kind ``evaluate`` evaluates another run's checkpoint (:mod:`pmae.evaluate.job`).

After SIGTERM it writes a checkpoint at the next step and exits with status 75. With
``--supervised`` its standard input is the supervisor's pipe: when that closes, or is silent for
``--silence-seconds``, it kills itself and its children at once. Exit status 1: the run failed, and
the ``error`` event has the reason; 74: the disk is full, and the event may be missing.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

from pydantic import ValidationError

from pmae.errors import (
    BasisError,
    CheckpointError,
    DataError,
    DatasetMissingError,
    DatasetUnreadableError,
    NonFiniteLossError,
    PmaeError,
    SpecError,
    TimeLimitError,
)
from pmae.presets import load_spec
from pmae.runs.events import ErrorEvent, EventWriter
from pmae.runs.layout import LeaseDir, RunDir
from pmae.runtime.files import write_file
from pmae.settings import StorageSettings
from pmae.spec import RUN_SPEC, EvaluateSpec, ExperimentSpec, RunSpec, resolve
from pmae.spec.sizes import check_submission
from pmae.spec.versions import SPEC_VERSION
from pmae.training.process.signals import (
    DISK_FULL,
    EXIT_DISK_FULL,
    EXIT_STOPPED,
    StopRequested,
    StopSignal,
    watch_supervisor,
)

_log = logging.getLogger("pmae.train")

_CODES: tuple[tuple[type[PmaeError], str], ...] = (
    (NonFiniteLossError, "non_finite_loss"),
    (TimeLimitError, "time_limit"),
    (DatasetMissingError, "dataset_missing"),
    (DatasetUnreadableError, "dataset_unreadable"),
    (DataError, "data_error"),
    (BasisError, "basis_error"),
    (CheckpointError, "checkpoint_error"),
    (SpecError, "spec_error"),
)
_DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)
_OUT_OF_MEMORY = (
    "out of memory; a smaller batch_size, resolution or model needs less, "
    "and so does bf16 precision"
)


def main() -> int:
    """Run the trainer; return the exit status."""
    arguments = _arguments()
    stop = StopSignal()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        stop.install()
        if arguments.supervised:
            watch_supervisor(sys.stdin.fileno(), arguments.silence_seconds)
        return _train(arguments, stop)
    except StopRequested:
        _log.info("stopped on request")
        return EXIT_STOPPED
    except PmaeError as error:
        sys.stderr.write(f"pmae.train: {error}\n")
        return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pmae.train", description="Train one run.")
    parser.add_argument("run_dir", type=Path, help="the run's folder, which holds spec.json")
    parser.add_argument("--spec", help="a preset's name or a spec file; written to RUN_DIR first")
    parser.add_argument("--lease", type=int, help="number of the lease; default: the next one")
    parser.add_argument(
        "--supervised", action="store_true", help="standard input is the supervisor's pipe"
    )
    parser.add_argument(
        "--silence-seconds",
        type=float,
        default=45.0,
        help="with --supervised: maximum silence of the pipe (default: 45)",
    )
    return parser.parse_args()


def _train(arguments: argparse.Namespace, stop: StopSignal) -> int:
    run_dir = RunDir(arguments.run_dir.absolute())
    version = _stored_version(run_dir)
    if arguments.spec:
        # A spec for a run of an older version is read with that version's defaults.
        submitted = _resolved(load_spec(arguments.spec, version=version))
        if version is None:
            check_submission(submitted)
        _write_spec(run_dir, submitted)
    spec = _read_spec(run_dir)
    if isinstance(spec, ExperimentSpec) and version not in (None, SPEC_VERSION):
        write_file(run_dir.spec, spec.model_dump_json(indent=1).encode())
    lease = _take_lease(run_dir, arguments.lease)
    events = EventWriter(lease.events)
    try:
        # CUDA reads this when it starts; without it cuBLAS is not deterministic.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        _work(run_dir, lease, spec, events, stop)
    except Exception as error:
        if stop.interrupted:
            raise StopRequested from error
        # Every failure becomes an event with a reason. Errors of this package explain themselves;
        # all others are logged with a traceback.
        _log.error("the run failed: %s", error, exc_info=not isinstance(error, PmaeError))
        full = isinstance(error, OSError) and error.errno in _DISK_FULL_ERRORS
        with suppress(OSError) if full else nullcontext():
            # On a full disk the event may not fit: the exit status reports it too.
            events.write(_error_event(error))
            events.sync()
        return EXIT_DISK_FULL if full else 1
    finally:
        events.close()
    return 0


def _work(
    run_dir: RunDir, lease: LeaseDir, spec: RunSpec, events: EventWriter, stop: StopSignal
) -> None:
    if isinstance(spec, EvaluateSpec):
        from pmae.evaluate.job import run as evaluate

        stop.check()
        evaluate(run_dir, lease, spec, StorageSettings(), events, stop)
    else:
        from pmae.training.run import run as pretrain

        stop.check()
        pretrain(run_dir, lease, spec, StorageSettings(), events, stop)


def _error_event(error: Exception) -> ErrorEvent:
    if isinstance(error, PmaeError):
        code = next((code for kind, code in _CODES if isinstance(error, kind)), "training_error")
        return ErrorEvent(code=code, message=str(error))
    if isinstance(error, OSError) and error.errno in _DISK_FULL_ERRORS:
        return ErrorEvent(code="disk_full", message=DISK_FULL)
    # torch raises its own error on CUDA, and a plain RuntimeError on the CPU.
    text = str(error)
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate" in text:
        return ErrorEvent(code="out_of_memory", message=_OUT_OF_MEMORY)
    kind = type(error).__name__
    return ErrorEvent(code="internal_error", message=f"{kind}: {text} (the log has the traceback)")


def _write_spec(run_dir: RunDir, spec: RunSpec) -> None:
    run_dir.path.mkdir(parents=True, exist_ok=True)
    if run_dir.spec.exists() and _read_spec(run_dir) != spec:
        raise SpecError(
            f"{run_dir.spec} holds another spec; use another folder, or continue that run: "
            f"python -m pmae.train {run_dir.path}"
        )
    write_file(run_dir.spec, spec.model_dump_json(indent=1).encode())


def _read_spec(run_dir: RunDir) -> RunSpec:
    try:
        return _resolved(RUN_SPEC.validate_json(run_dir.spec.read_bytes()))
    except OSError as error:
        raise SpecError(f"{run_dir.spec} cannot be read; --spec writes it ({error})") from error
    except ValidationError as error:
        raise SpecError(f"{run_dir.spec}: {error}") from error


def _stored_version(run_dir: RunDir) -> int | None:
    """Return the version of the spec in the run's folder; None without spec or version."""
    try:
        fields = json.loads(run_dir.spec.read_bytes())
    except (OSError, ValueError):
        return None  # reading the spec later reports the error
    version = fields.get("version") if isinstance(fields, dict) else None
    return version if isinstance(version, int) else None


def _resolved(spec: RunSpec) -> RunSpec:
    """Resolve a spec, except an evaluation's, which is resolved with its checkpoint's spec."""
    return spec if isinstance(spec, EvaluateSpec) else resolve(spec)


def _take_lease(run_dir: RunDir, number: int | None) -> LeaseDir:
    if number is None:
        leases = run_dir.leases()
        number = leases[-1].number + 1 if leases else 1
    lease = run_dir.lease(number)
    lease.path.mkdir(exist_ok=True)
    return lease
