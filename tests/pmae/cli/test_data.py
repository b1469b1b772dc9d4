"""``pmae data`` in a process that may not read everything, as in a container."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.commands import PMAE
from tests.support.unprivileged import (
    UNUSABLE,
    USABLE,
    close,
    open_again,
    unprivileged,
    write_birds,
    write_data_root,
)


@pytest.fixture
def data_root(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "data"
    root.mkdir()
    yield root
    open_again(root)


def _pmae_data(
    *arguments: str, root: Path, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """With nothing of a service but the data root, and nowhere else to write."""
    home = {"PMAE_DATA_ROOT": str(root), "PMAE_HOME": "/nonexistent/home", "COLUMNS": "200"}
    done = subprocess.run(
        unprivileged([*PMAE, "data", *arguments]),
        env={**os.environ, **home, "HOME": "/nonexistent", **(settings or {})},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def _rows(done: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    return {row[0]: row for row in (line.split("\t") for line in done.stdout.splitlines()[1:])}


def test_what_cannot_be_read_is_listed_as_such(data_root: Path) -> None:
    write_data_root(data_root)
    done = _pmae_data("list", root=data_root)
    assert (done.returncode, done.stderr) == (0, "")
    rows = _rows(done)
    own = {name: row for name, row in rows.items() if name.startswith(("folder:", "npz:"))}
    assert {name for name, row in own.items() if row[2] == "yes"} == USABLE
    assert {name for name, row in own.items() if row[2] == "no"} == set(UNUSABLE)
    for name, reason in UNUSABLE.items():
        assert reason in own[name][3]
    assert rows["cifar10"][2] == "no"
    for closed in (own["folder:private"], rows["cifar10"]):
        assert f"cannot be read by user {os.geteuid()}" in closed[3]
        assert "chmod -R a+rX" in closed[3]


def test_a_check_says_what_a_training_would_find(data_root: Path) -> None:
    write_data_root(data_root)
    done = _pmae_data("check", root=data_root)
    assert done.returncode == 1
    rows = _rows(done)
    assert rows["folder:birds"][1:] == ["14", "2", "4", "2", "1", "32", ""]
    assert rows["digits"][4:] == ["10", "1", "8", ""]
    assert "partly/wren cannot be read by user" in rows["folder:partly"][-1]
    assert "wren/3.png cannot be read by user" in rows["folder:one_image"][-1]
    assert set(UNUSABLE) <= set(rows)
    assert "cannot be read by user" in rows["cifar10"][-1]
    assert "imagenet" not in rows, "it is not here"

    one = _pmae_data("check", "folder:birds", "--resolution", "16", root=data_root)
    assert one.returncode == 0
    assert list(_rows(one)) == ["folder:birds"]
    absent = _pmae_data("check", "imagenet", root=data_root)
    assert absent.returncode == 1
    assert "was looked for in" in _rows(absent)["imagenet"][-1]


def test_a_data_root_that_is_missing_or_closed_is_told(data_root: Path) -> None:
    done = _pmae_data("list", root=data_root / "nowhere")
    assert done.returncode == 0
    assert "nowhere is not there (PMAE_DATA_ROOT names it)" in done.stderr
    closed = data_root / "closed"
    write_birds(closed / "birds")
    close(closed)
    done = _pmae_data("list", root=closed)
    assert f"{closed} cannot be read by user" in done.stderr
    assert "folder:birds" not in done.stdout
    done = _pmae_data("check", "folder:birds", root=closed)
    assert f"{closed} cannot be read by user" in done.stdout


def test_a_data_root_that_cannot_be_written_says_how_to_have_it_so(data_root: Path) -> None:
    close(data_root)
    data_root.chmod(0o555)
    done = _pmae_data("download", "cifar10", root=data_root)
    assert done.returncode == 1
    assert f"the data root {data_root} cannot be written by user {os.geteuid()}" in done.stderr
    assert "docker compose run --rm" in done.stderr
