"""Layout of the packages: who may import whom, no import cycles, and folders of a readable size."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pmae", "api", "worker", "dashboard")
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
WITHOUT = {
    # Within pmae: what a folder knows nothing of.
    "pmae.spec": ("pmae.presets", "pmae.training", "pmae.cli", "pmae.client", "pmae.settings"),
    "pmae.runs": ("pmae.training", "pmae.evaluate", "pmae.cli", "pmae.client", "pmae.inference"),
    "pmae.models": ("pmae.methods", "pmae.training", "pmae.data", "pmae.runs"),
    "pmae.methods": ("pmae.training", "pmae.data", "pmae.runs", "pmae.evaluate"),
    "pmae.client": ("pmae.cli", "pmae.up", "pmae.training", "pmae.inference"),
    "pmae.training": ("pmae.cli", "pmae.up", "pmae.client"),
    "pmae.up": ("pmae.cli", "pmae.training"),
    "api.db": ("api.http", "api.auth", "api.runs", "api.services"),
}
MAX_FILES_AT_THE_ROOT = {"pmae": 8, "api": 8, "worker": 15, "dashboard": 8}
MAX_FILES_IN_A_FOLDER = 15


def modules() -> dict[str, Path]:
    """Every module of the packages by its dotted name, a package's own by the package's."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Everything that a file imports, within functions and for type checking too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if module in known else node.module


def graph() -> dict[str, set[str]]:
    """What each module imports of the packages.

    To import ``a.b.c`` runs ``a.b`` too, so that it counts, except within ``a.b`` itself.
    """
    known = modules()
    edges: dict[str, set[str]] = {}
    for module, path in known.items():
        targets = set()
        for name in imported(path, known):
            parts = name.split(".")
            parents = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
            targets |= {each for each in parents if not f"{module}.".startswith(f"{each}.")}
        edges[module] = targets & known.keys()
    return edges


def cycle(edges: Mapping[str, set[str]]) -> list[str]:
    """A cycle of a graph, its first node again at the end; empty if there is none."""
    done: set[str] = set()
    for start in edges:
        path: list[str] = []
        waiting = [(start, 0)]
        while waiting:
            node, depth = waiting.pop()
            done.update(path[depth:])
            del path[depth:]
            if node in path:
                return [*path[path.index(node) :], node]
            if node not in done:
                path.append(node)
                waiting += [(each, depth + 1) for each in sorted(edges.get(node, ()))]
        done.update(path)
    return []


@pytest.mark.parametrize("package", FORBIDDEN)
def test_import_directions(package: str) -> None:
    known = modules()
    found = [
        (path, name)
        for module, path in known.items()
        if module.partition(".")[0] == package
        for name in imported(path, known)
    ]
    assert found
    for path, module in found:
        root = module.partition(".")[0]
        assert root not in FORBIDDEN[package], f"{path} imports {module}"
        allowed = ONLY.get(package, {}).get(root)
        if allowed:
            assert _is_within(module, *allowed), f"{path} imports {module}"


@pytest.mark.parametrize("package", WITHOUT)
def test_directions_within_a_package(package: str) -> None:
    known = modules()
    inside = {module: path for module, path in known.items() if _is_within(module, package)}
    assert inside
    for path in inside.values():
        for name in imported(path, known):
            assert not _is_within(name, *WITHOUT[package]), f"{path} imports {name}"


def test_no_module_imports_itself_through_others() -> None:
    found = cycle(graph())
    assert not found, " -> ".join(found)


def test_a_cycle_is_found() -> None:
    edges = {"a": {"b"}, "b": {"d", "c"}, "c": {"e", "b"}, "d": {"e"}, "e": set()}
    assert cycle(edges) == ["b", "c", "b"]
    assert cycle({**edges, "c": {"e"}}) == []
    assert cycle({"a": {"a"}}) == ["a", "a"]


def test_folders_are_of_a_readable_size() -> None:
    folders: dict[Path, int] = {}
    for path in modules().values():
        folder = path.parent.relative_to(ROOT)
        if "migrations" not in folder.parts:
            folders[folder] = folders.get(folder, 0) + 1
    for folder, count in folders.items():
        most = MAX_FILES_AT_THE_ROOT.get(str(folder), MAX_FILES_IN_A_FOLDER)
        assert count <= most, f"{folder} holds {count} files of Python, at most {most} are allowed"


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


def _is_within(module: str, *packages: str) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def _loaded_by(module: str) -> set[str]:
    """The top-level packages that importing it alone loads."""
    script = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())
