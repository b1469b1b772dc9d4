"""Print what extras of pyproject.toml need: ``python requirements.py pyproject.toml api,worker``.

An image installs this list before the code, so only a changed dependency installs them again.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

_OWN_EXTRAS = re.compile(r"pmae\[([\w,-]+)\]")


def requirements(project: Path, extras: list[str]) -> list[str]:
    """List the requirements of the package with ``extras``, each once, sorted.

    Args:
        project: a ``pyproject.toml``.
        extras: names of its ``optional-dependencies``; those that they name follow.

    Raises:
        SystemExit: there is no extra of that name.
    """
    facts = tomllib.loads(project.read_text())["project"]
    found: set[str] = set(facts["dependencies"])
    waiting = list(extras)
    seen: set[str] = set()
    while waiting:
        extra = waiting.pop()
        if extra in seen:
            continue
        seen.add(extra)
        if extra not in facts["optional-dependencies"]:
            known = ", ".join(facts["optional-dependencies"])
            raise SystemExit(f"{project} has no extra {extra!r}; expected one of: {known}")
        for requirement in facts["optional-dependencies"][extra]:
            own = _OWN_EXTRAS.fullmatch(requirement)
            if own:
                waiting += own[1].split(",")
            else:
                found.add(requirement)
    return sorted(found)


if __name__ == "__main__":
    names = [name for name in sys.argv[2].split(",") if name]
    sys.stdout.write("\n".join(requirements(Path(sys.argv[1]), names)) + "\n")
