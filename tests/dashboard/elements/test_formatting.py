from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dashboard.elements import formatting

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (8040, "2 h 14 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert formatting.duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "just now"),
        (59, "just now"),
        (60, "1 min ago"),
        (7200, "2 h ago"),
        (86_400, "1 day ago"),
        (260_000, "3 days ago"),
    ],
)
def test_ages(seconds: float, words: str) -> None:
    assert formatting.age(NOW - timedelta(seconds=seconds), NOW) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"),
        (0.43125, "0.4313"),
        (12.3056, "12.31"),
        (1234.5, "1234"),
        (-0.05, "-0.05000"),
        (3.2e-5, "3.2e-05"),
        (1.5e6, "1.5e+06"),
        (float("inf"), "inf"),
    ],
)
def test_figures_have_four_digits(value: float, words: str) -> None:
    assert formatting.figure(value) == words


def test_sizes_and_shares() -> None:
    assert [formatting.size(n) for n in (0, 999, 4_200_000, 3 * 10**12)] == [
        "0 B",
        "999 B",
        "4.2 MB",
        "3.0 TB",
    ]
    assert formatting.percent(0.9123) == "91.2 %"


@pytest.mark.parametrize(("value", "text"), [(100, "100"), (96.7895, "96.8"), (0.05, "0.1")])
def test_epochs(value: float, text: str) -> None:
    assert formatting.epoch(value) == text
