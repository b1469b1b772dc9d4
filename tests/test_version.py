"""The version stands in ``pmae/__init__.py``; files that cannot read it repeat it, and agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from api.main import create_app
from pmae import __version__

ROOT = Path(__file__).parents[1]

REPEATED = {
    "docker-compose.yml": r"\$\{PMAE_VERSION:-([^}]*)\}",
    ".env.example": r"^PMAE_VERSION=(.*)$",
    "docs/deployment.md": r"pmae(?:-dashboard)?:(\d\S*)",
    "CITATION.cff": r"^version: (.*)$",
    "CHANGELOG.md": r"\A(?:.*\n)*?## \[(\d[^\]]*)\]",  # the newest release
}
"""Files that a program other than Python reads, and where the version stands in them."""


def test_the_distribution_takes_its_version_from_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "pmae.__version__"}


@pytest.mark.parametrize("name", REPEATED)
def test_files_that_repeat_the_version_agree(name: str) -> None:
    found = re.findall(REPEATED[name], (ROOT / name).read_text(), re.MULTILINE)
    assert found
    assert set(found) == {__version__}


def test_no_other_place_of_the_product_names_the_version() -> None:
    named = re.compile(rf"(?<![\d.]){re.escape(__version__)}(?![\d.])")
    folders = ("pmae", "api", "worker", "dashboard", "docker")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [ROOT / "Makefile", ROOT / "pyproject.toml"]
    texts = {path: path.read_text(errors="replace") for path in files if path.suffix != ".pyc"}
    assert [path.relative_to(ROOT) for path, text in texts.items() if named.search(text)] == [
        Path("pmae/__init__.py")
    ]


def test_the_api_names_it() -> None:
    assert create_app().version == __version__


def test_images_are_labelled_with_what_compose_calls_the_version() -> None:
    text = (ROOT / "docker/Dockerfile").read_text()
    stages = len(re.findall(r"^LABEL ", text, re.MULTILINE))
    assert stages == 2
    assert text.count('org.opencontainers.image.version="$PMAE_VERSION"') == stages
