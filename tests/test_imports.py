"""Who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "pmae": {"api", "worker", "dashboard", "fastapi", "starlette", "sqlalchemy", "alembic"}
    | {"celery", "kombu", "streamlit"},
    "api": {"worker", "dashboard", "streamlit"},
    "worker": {"dashboard", "fastapi", "starlette", "streamlit"},
    "dashboard": {"api", "worker", "torch", "sqlalchemy", "celery", "fastapi"},
}
ONLY: dict[str, dict[str, tuple[str, ...]]] = {
    "worker": {"api": ("api.db",)},
    "dashboard": {
        "pmae": ("pmae.client", "pmae.schema", "pmae.spec", "pmae.errors", "pmae.metrics")
    },
}


def _imports(package: str) -> Iterator[tuple[Path, str]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield path, node.module


@pytest.mark.parametrize("package", FORBIDDEN)
def test_import_directions(package: str) -> None:
    found = list(_imports(package))
    assert found
    for path, module in found:
        root = module.partition(".")[0]
        assert root not in FORBIDDEN[package], f"{path} imports {module}"
        allowed = ONLY.get(package, {}).get(root)
        if allowed:
            assert module.startswith(allowed), f"{path} imports {module}"


@pytest.mark.parametrize(
    "module",
    [
        "api.main",
        "worker.task",
        "pmae.client",
        "pmae.cli.app",
        "pmae.metrics",
        "pmae.methods.mae",
        "pmae.methods.pmae",
        "pmae.spec",
        "dashboard.charts.drawing",
    ],
)
def test_importing_it_loads_no_torch(module: str) -> None:
    assert "torch" not in _loaded_by(module)


@pytest.mark.parametrize("module", ["pmae.client", "pmae.cli.app"])
def test_what_only_speaks_rest_loads_no_sql_and_no_web_framework(module: str) -> None:
    assert not FORBIDDEN["pmae"] & _loaded_by(module)


def _loaded_by(module: str) -> set[str]:
    """The top-level packages that importing it alone loads."""
    script = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())
