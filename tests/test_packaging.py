"""The distributions: what is in them, and that the wheel alone trains the quickstart."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import httpx
import pytest

from pmae import __version__
from tests.stack import start_stack

ROOT = Path(__file__).parents[1]
PACKAGES = ("api", "dashboard", "pmae", "worker")


def _run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Run to the end without this tree on the path; returns what it printed."""
    environment = {**os.environ, "PYTHONPATH": "", **variables}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("distributions")
    tree = folder / "tree"
    tree.mkdir()
    for name in (*PACKAGES, "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "tests"):
        source = ROOT / name
        if source.is_dir():
            # Of a package hidden folders too: the dashboard's settings lie in one.
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, tree / name, ignore=ignored)
        else:
            shutil.copy(source, tree / name)
    # Without isolation: setuptools is installed already, and nothing is downloaded.
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, tree, cwd=folder)
    return folder


def _only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def _sources() -> set[str]:
    files = (path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_every_file_of_the_packages_and_no_other(distributions: Path) -> None:
    wheel = _only(distributions, "pmae-*.whl")
    assert wheel.name == f"pmae-{__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    own = {name for name in names if not name.startswith(f"pmae-{__version__}.dist-info/")}
    assert own == _sources()
    assert {f"{package}/py.typed" for package in PACKAGES} <= own
    assert f"pmae-{__version__}.dist-info/licenses/LICENSE" in names


def test_the_source_distribution_builds_the_wheel_and_has_no_tests(distributions: Path) -> None:
    """The tests need the whole repository (compose files, documents): take the tag for them."""
    with tarfile.open(_only(distributions, "pmae-*.tar.gz")) as archive:
        files = [member.name for member in archive.getmembers() if member.isfile()]
    inside = {name.partition("/")[2] for name in files}
    assert _sources() | {"pyproject.toml", "README.md", "LICENSE"} <= inside
    assert not [name for name in inside if name.startswith("tests")]


def test_every_dependency_has_a_lower_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"]]
    listed += [one for extra in project["optional-dependencies"].values() for one in extra]
    assert [one for one in listed if ">=" not in one and not one.startswith("pmae[")] == []


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.timeout(600)
def test_the_wheel_trains_the_quickstart_in_an_empty_folder(
    distributions: Path, tmp_path: Path
) -> None:
    """Only what it depends on is taken from the environment of the tests."""
    folder = tmp_path / "empty"
    folder.mkdir()
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site_packages = environment / "lib" / version / "site-packages"
    # A plain path: `.pth` files of the folder that it names, an editable pmae's, are not read.
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python, pmae = environment / "bin/python", environment / "bin/pmae"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index")
    wheel = _only(distributions, "pmae-*.whl")
    _run(*pip, "--no-deps", "--ignore-installed", wheel, cwd=folder)
    _run(*pip, "pmae[embedded]", cwd=folder)  # fails where a dependency is missing
    places = _run(
        python,
        "-c",
        "import api, dashboard, pmae, worker\n"
        "for module in (api, dashboard, pmae, worker): print(module.__file__)",
        cwd=folder,
    )
    assert places.split() == [str(site_packages / name / "__init__.py") for name in PACKAGES]

    stack = start_stack(folder, {"PYTHONPATH": ""}, command=[str(pmae)], cwd=folder)
    try:
        submit = ("submit", "quickstart", "--set", "epochs=2", "--watch")
        told = _run(pmae, *submit, cwd=folder, PMAE_API_URL=stack.api_url)
        assert "trained encoder" in told  # exit status 0: the run has succeeded
        assert httpx.get(stack.dashboard_url).status_code == 200
        assert httpx.get(f"{stack.api_url}/api/v1/docs").status_code == 200
    finally:
        assert stack.stop() == 0
    assert (folder / "pmae.sqlite3").exists()
