"""Streamlit puts the script's folder first on ``sys.path``: its modules hide any others."""

from __future__ import annotations

import sys

from tests.dashboard.app import SCRIPT


def test_no_module_hides_one_of_the_standard_library() -> None:
    folder = SCRIPT.parent
    modules = [path for path in folder.rglob("*.py") if path.stem not in ("__init__", "__main__")]
    packages = [path.parent for path in folder.rglob("__init__.py") if path.parent != folder]
    assert SCRIPT in modules
    names = {path.stem: path for path in modules + packages}
    hidden = names.keys() & sys.stdlib_module_names
    assert not hidden, f"rename {[str(names[name]) for name in sorted(hidden)]}"
