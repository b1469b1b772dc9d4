"""The ``pmae`` command line as a process."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from pmae import __version__

ROOT = Path(__file__).parents[2]
PMAE = (sys.executable, "-P", "-c", "from pmae.cli import main; main()")
"""Without the current folder on the path: an installation from it has left its metadata there."""


def run_pmae(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    cwd: Path | None = None,
    text: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with ``text`` as its input and both its outputs in pipes."""
    settings = {"COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        [*PMAE, *arguments],
        env={**os.environ, **settings, **(environment or {})},
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=120,
    )


def installed_metadata(folder: Path) -> dict[str, str]:
    """What an installation writes of this project's entry points, for a process to find.

    The tests must not depend on when the project was installed last.

    Args:
        folder: to write to.

    Returns:
        Environment variables.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines: list[str] = []
    for group, names in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in names.items())]
    info = folder / f"pmae-{__version__}.dist-info"
    info.mkdir(parents=True)
    facts = f"Metadata-Version: 2.1\nName: pmae\nVersion: {__version__}\n"
    (info / "METADATA").write_text(facts)
    (info / "entry_points.txt").write_text("\n".join(lines))
    paths = [str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
