"""Nothing that came from elsewhere is unpickled: a pickle runs whatever its maker wants."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("pmae", "api", "worker", "dashboard", "benchmarks")
UNPICKLING_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CHECKED_FIRST = {"pmae/data/readers/cifar10.py"}
"""CIFAR-10 comes pickled; its files are the known ones, by their MD5, before they are read."""


def _nodes() -> Iterator[tuple[str, ast.AST]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            yield from ((name, node) for node in ast.walk(ast.parse(path.read_text())))


def _constant(call: ast.Call, name: str) -> object:
    found = (word.value for word in call.keywords if word.arg == name)
    return next((value.value for value in found if isinstance(value, ast.Constant)), None)


def test_no_module_that_unpickles_is_imported() -> None:
    found = set()
    for name, node in _nodes():
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        if UNPICKLING_MODULES & {module.partition(".")[0] for module in modules}:
            found.add(name)
    assert found == CHECKED_FIRST


def test_torch_and_numpy_load_data_only() -> None:
    loads = 0
    for name, node in _nodes():
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        called = ast.unparse(node.func)
        if called == "torch.load":
            loads += 1
            assert _constant(node, "weights_only") is True, f"{name}:{node.lineno}"
        assert not called.endswith("load_from_checkpoint"), f"{name}:{node.lineno} unpickles"
        assert _constant(node, "allow_pickle") is not True, f"{name}:{node.lineno}"
        assert _constant(node, "weights_only") is not False, f"{name}:{node.lineno}"
    assert loads > 0
    imported = [
        name
        for name, node in _nodes()
        if isinstance(node, ast.ImportFrom)
        and node.module == "torch"
        and "load" in {alias.name for alias in node.names}
    ]
    assert imported == [], "call it as torch.load, where it is looked for"
