"""SIGTERM of a trainer: it is heeded whenever it comes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from pmae.training.process.signals import StopRequested, StopSignal


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    handler = signal.getsignal(signal.SIGTERM)
    stop = StopSignal()
    stop.install()
    yield stop
    signal.signal(signal.SIGTERM, handler)


def _send() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_stop_that_nothing_defers_is_no_error_that_code_may_swallow(stop: StopSignal) -> None:
    with pytest.raises(StopRequested), suppress(Exception):
        _send()
    assert stop.interrupted


def test_a_stop_that_is_deferred_comes_at_the_end_of_the_block(stop: StopSignal) -> None:
    with pytest.raises(StopRequested), stop.deferred():
        _send()
    assert not stop.interrupted


def test_a_stop_that_was_swallowed_is_seen_before_the_first_step(stop: StopSignal) -> None:
    with suppress(StopRequested):
        _send()
    with pytest.raises(StopRequested), stop.deferred():
        raise AssertionError("the block was entered")
