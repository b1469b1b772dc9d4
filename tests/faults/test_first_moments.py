"""A cancel or a drain that comes between the claim and the trainer's first moments is not lost."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.faults.lab import Lab
from tests.faults.spec import run_of
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(900)]
LONG_RUN = run_of(4000)


def _wait_for_claim(lab: Lab, run_id: str, lease: int = 1) -> None:
    def claimed() -> bool:
        row = lab.row(run_id)
        return row.state == "running" and row.lease_number == lease

    wait_until(claimed, f"the claim of lease {lease}", seconds=240, every=0.005)


def _log(lab: Lab, run_id: str, lease: int = 1) -> str:
    run = lab.home / "artifacts" / "runs" / run_id
    log: Path = run / f"lease-{lease:04d}" / "train.log"
    return log.read_text()


def test_a_cancel_at_once_after_the_claim_ends_the_run() -> None:
    with Lab(None, num_workers=1) as lab:
        warm = lab.submit(LONG_RUN)
        lab.wait_for_training(warm)
        lab.client.cancel(warm)
        for _ in range(12):
            run_id = lab.submit(LONG_RUN)
            _wait_for_claim(lab, run_id)
            lab.client.cancel(run_id)
            assert lab.wait_for_end(run_id).state == "cancelled"
            # It left by itself: it was not killed when its time to leave was over.
            assert "stopped on request" in _log(lab, run_id)
            assert not lab.trainers(run_id)


def test_a_drain_at_once_after_the_claim_gives_the_run_back() -> None:
    with Lab(None, num_workers=1) as lab:
        (worker,) = lab.workers
        run_id = lab.submit(LONG_RUN)
        for lease in (1, 2, 3):
            _wait_for_claim(lab, run_id, lease)
            # Its child supervises: the drain is the main process's to hear.
            worker.end(signal.SIGTERM)
            row = lab.row(run_id)
            assert (row.state, row.attempt) == ("queued", 0)
            assert row.reason == "the worker gave it back; it will be resumed"
            assert not lab.trainers(run_id)
            worker.start()
        lab.wait_for_training(run_id, lease=4)
        lab.client.cancel(run_id)
        assert lab.wait_for_end(run_id).state == "cancelled"
