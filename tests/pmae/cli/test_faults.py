"""What is wrong around a command (its arguments, its key, a database) is told in a sentence."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pmae.client import InvalidKeyError, PmaeClient
from tests.pmae.cli.conftest import Command
from tests.support.commands import installed_metadata, run_pmae

NOBODY = "postgresql+psycopg://u:geheim@127.0.0.1:1/x"
NOT_UTF8 = os.fsdecode(b"a\xff")


def _is_a_sentence(done: subprocess.CompletedProcess[str], told: str) -> None:
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("pmae: ")
    assert len(done.stderr.splitlines()) == 1
    assert told in done.stderr


@pytest.mark.parametrize("key", ["schlüssel", "a\nb", "pmae_a b", os.fsdecode(b"\xff")])
def test_a_key_that_no_header_can_carry(key: str, pmae: Command) -> None:
    done = pmae("list", PMAE_API_KEY=key)
    _is_a_sentence(done, "the API key is malformed")
    assert key not in done.stderr
    with PmaeClient("http://127.0.0.1:1") as client, pytest.raises(InvalidKeyError):
        client.with_key(key)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("list", "--text", NOT_UTF8), "text: expected text in UTF-8"),
        (("submit", "quickstart", "--name", NOT_UTF8), r"the argument b'a\xff' is not UTF-8"),
        (("list", "--api-url", NOT_UTF8), r"the argument b'a\xff' is not UTF-8"),
    ],
)
def test_arguments_that_are_not_utf8(arguments: tuple[str, ...], told: str, pmae: Command) -> None:
    _is_a_sentence(pmae(*arguments), told)


def test_a_file_may_have_any_name(pmae: Command, tmp_path: Path) -> None:
    file = tmp_path / f"{NOT_UTF8}.yaml"
    file.write_text("dataset: {name: digits}\n")
    assert pmae("submit", str(file), "--name", "a").returncode == 0


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("PMAE_DATABASE_URL", NOBODY, "connection"),
        ("PMAE_DATABASE_URL", "nonsense-geheim", "parse"),
        ("PMAE_DATABASE_URL", "mysql+nothing://u:geheim@h/x", "nothing"),
        ("PMAE_DATABASE_URL", "mysql://u:geheim@h/x", "not installed"),
        ("PMAE_LEASE_SECONDS", "long", "PMAE_LEASE_SECONDS: "),
    ],
)
def test_a_database_that_cannot_be_used(
    variable: str, value: str, told: str, tmp_path: Path
) -> None:
    """Nor is its password told."""
    environment = installed_metadata(tmp_path / "site") | {variable: value}
    environment |= {"PMAE_HOME": str(tmp_path / "nowhere")} if "LEASE" in variable else {}
    done = run_pmae(["keys", "list"], environment)
    _is_a_sentence(done, told)
    assert "geheim" not in done.stderr


@pytest.mark.parametrize("command", [("keys", "list"), ("keys", "revoke", "ada"), ("gc",)])
def test_no_command_shows_a_traceback_for_a_broken_database(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "pmae.sqlite3").write_bytes(b"not a database" * 100)
    environment = installed_metadata(tmp_path / "site") | {"PMAE_HOME": str(tmp_path)}
    _is_a_sentence(run_pmae(command, environment), "file is not a database")
    environment["PMAE_DATABASE_URL"] = NOBODY
    _is_a_sentence(run_pmae(command, environment), "connection")


def test_a_service_that_is_not_here() -> None:
    """As in a container, where nothing says where the service is."""
    done = run_pmae(["worker", "list"], {"PMAE_API_URL": "http://127.0.0.1:1"})
    _is_a_sentence(done, "PMAE_API_URL is the address of another one")
    assert "PMAE_API_KEY" in done.stderr


def test_a_machine_without_the_database(tmp_path: Path) -> None:
    environment = installed_metadata(tmp_path / "site") | {"PMAE_HOME": str(tmp_path / "none")}
    for command in (["gc", "--dry-run"], ["keys", "list"], ["db", "check"]):
        done = run_pmae(command, environment)
        _is_a_sentence(done, f"there is no database in {tmp_path}/none;")
        typed = " ".join(part for part in command if not part.startswith("-"))
        assert done.stderr.strip().endswith(f"docker compose exec api pmae {typed}")
