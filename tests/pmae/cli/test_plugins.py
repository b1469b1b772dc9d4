"""Commands that other packages add, found as an installation leaves them."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer

from pmae.cli.plugins import GROUP, load
from pmae.errors import CommandError
from tests.support.commands import ROOT, installed_metadata, run_pmae


@pytest.fixture
def metadata(tmp_path: Path) -> dict[str, str]:
    return installed_metadata(tmp_path / "site")


def test_every_command_that_the_project_adds_can_be_loaded() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    added = project["entry-points"][GROUP]
    assert set(added) == {"backup", "db", "gc", "keys", "restore", "worker.run"}
    for name, value in added.items():
        assert isinstance(load(EntryPoint(name, value, GROUP)), typer.Typer)


def test_they_stand_in_the_help_of_their_group(metadata: dict[str, str]) -> None:
    top = run_pmae(["--help"], metadata)
    assert (top.returncode, top.stderr) == (0, "")
    for command in ("submit", "worker", "data", "gc", "Remove files that nothing needs"):
        assert command in top.stdout
    group = run_pmae(["worker", "--help"], metadata)
    for command in ("list", "drain", "undrain", "run", "Run a worker in this terminal"):
        assert command in group.stdout
    own = run_pmae(["gc", "--help"], metadata)
    assert own.returncode == 0
    for option in ("--dry-run", "--min-age-hours", "--keep-bases"):
        assert option in own.stdout


def test_an_unknown_command_is_refused(metadata: dict[str, str]) -> None:
    for arguments in (["nothing"], ["worker", "gc"], ["run"]):
        done = run_pmae(arguments, metadata)
        assert done.returncode == 2
        assert "No such command" in done.stderr


def test_one_that_cannot_be_loaded_says_what_to_install_and_breaks_no_other(
    metadata: dict[str, str], tmp_path: Path
) -> None:
    (found,) = tmp_path.glob("site/*.dist-info/entry_points.txt")
    found.write_text(f"[{GROUP}]\nbroken = api.no_such_module:app\nwrong = pmae.cli:main\n")
    broken = run_pmae(["broken"], metadata)
    assert broken.returncode == 1
    assert "pip install 'pmae[api]'" in broken.stderr
    assert "Traceback" not in broken.stderr
    wrong = run_pmae(["wrong"], metadata)
    assert "is no typer.Typer" in wrong.stderr
    assert run_pmae(["data", "list"], metadata | {"PMAE_HOME": str(tmp_path)}).returncode == 0


def test_what_is_loaded_is_what_was_asked_for(metadata: dict[str, str]) -> None:
    assert EntryPoint("x", "api.storage.commands:gc", GROUP).module == "api.storage.commands"
    with pytest.raises(CommandError, match=r"pmae\[nowhere\]"):
        load(EntryPoint("a.b", "nowhere.module:app", GROUP))
