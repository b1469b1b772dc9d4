"""The losses of ten steps are those of the files in ``golden/``."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pmae.golden.curves import CURVES, FOLDER, losses

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning"),
]


@pytest.fixture(autouse=True)
def signal_handler() -> Iterator[None]:
    """Training handles SIGTERM; the tests after it do not."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize("name", CURVES)
def test_ten_steps_lose_what_they_did(name: str, tmp_path: Path) -> None:
    golden = json.loads((FOLDER / f"{name}.json").read_text())
    assert len(golden) == 10
    assert losses(name, tmp_path) == pytest.approx(golden, rel=1e-4)
