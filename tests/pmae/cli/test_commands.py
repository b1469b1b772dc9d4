"""The commands a researcher types, against the real service, and what they say when they cannot."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from pmae.client import PmaeClient
from pmae.errors import ClientError
from pmae.schema import TERMINAL_STATES, Run
from tests.stack import RunningStack
from tests.support.commands import PMAE, run_pmae
from tests.support.ports import free_port
from tests.support.processes import processes_that_mention
from tests.support.specs import ENDLESS, TINY
from tests.support.waiting import wait_until


@pytest.fixture
def nowhere() -> dict[str, str]:
    """The address of no service."""
    return {"PMAE_API_URL": f"http://127.0.0.1:{free_port()}"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit", "quickstart"],
        ["download", "3f9c0a1b2c4d-00000001", "weights"],
        ["worker", "list"],
        ["worker", "drain", "w"],
        ["worker", "undrain", "w"],
    ],
)
def test_a_service_that_is_not_there_is_told_in_a_sentence(
    arguments: list[str], nowhere: dict[str, str]
) -> None:
    done = run_pmae(arguments, nowhere)
    assert done.returncode == 1
    assert nowhere["PMAE_API_URL"] in done.stderr
    assert "`pmae up` starts the service" in done.stderr
    assert "Traceback" not in done.stderr


def test_data_sets_that_are_not_here_say_how_to_get_them(tmp_path: Path) -> None:
    home = {"PMAE_HOME": str(tmp_path)}
    listed = run_pmae(["data", "list"], home)
    assert listed.returncode == 0
    rows = {row[0]: row for row in (line.split("\t") for line in listed.stdout.splitlines())}
    assert rows["digits"][2] == "yes"
    assert rows["cifar10"][2] == "no"
    unknown = run_pmae(["data", "download", "no_such_set"], home)
    assert unknown.returncode == 1
    assert "no_such_set" in unknown.stderr
    assert "cifar10" in unknown.stderr, "it says what would be valid"
    assert "Traceback" not in unknown.stderr
    own = run_pmae(["data", "download", "imagenet"], home)
    assert own.returncode == 1
    assert "Traceback" not in own.stderr
    assert run_pmae(["data", "download"], home).returncode == 2


@pytest.mark.parametrize("command", [["submit"], ["train"]])
def test_a_spec_that_cannot_be_read_names_what_is_wrong(
    command: list[str], tmp_path: Path, nowhere: dict[str, str]
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("epochs: many\n")
    extra = [str(tmp_path / "run")] if command == ["train"] else []
    broken = run_pmae([*command, str(file), *extra], nowhere)
    assert broken.returncode == 1
    assert "epochs" in broken.stderr
    assert "Traceback" not in broken.stderr


@pytest.mark.stack
def test_submit_watch_download(stack: RunningStack, tmp_path: Path) -> None:
    service = {"PMAE_API_URL": stack.api_url}
    spec = tmp_path / "tiny.yaml"
    spec.write_text(TINY.model_dump_json(exclude_unset=True))  # JSON is YAML
    submitted = run_pmae(["submit", str(spec), "--priority", "3"], service)
    assert submitted.returncode == 0
    run_id = submitted.stdout.strip()

    watched = run_pmae(["watch", run_id], service)
    assert watched.returncode == 0, watched.stderr
    for part in ("trained encoder", "raw pixels", "%"):
        assert part in watched.stdout
    with stack.client as client:
        assert client.run(run_id).priority == 3
        checkpoint = next(client.checkpoints(run_id, kind="kept"))

    fetched = run_pmae(["download", checkpoint.id, str(tmp_path / "w")], service)
    assert "sha256 verified" in fetched.stdout
    assert (tmp_path / "w").stat().st_size == checkpoint.files["model.safetensors"].size
    picture, own, page = (tmp_path / name for name in ("picture.png", "own.jpg", "page.png"))
    Image.new("RGB", (40, 30), "red").save(own)
    page.write_text("<html>")
    for arguments in (
        ["reconstruct", run_id, str(picture), "--images", "0-1", "--components", "0-3"],
        ["reconstruct", checkpoint.id, str(picture), "--ratio", "0.3", "--strategy", "top"],
        ["reconstruct", run_id, str(picture), "--image", str(own), "--image", str(own)],
        ["filmstrip", run_id, str(picture), "--image", "1"],
    ):
        picture.unlink(missing_ok=True)
        drawn = run_pmae(arguments, service)
        assert (drawn.returncode, drawn.stderr) == (0, "")
        assert picture.read_bytes().startswith(b"\x89PNG")
    files = [part for file in (own, page) for part in ("--image", str(file))]
    refused = run_pmae(["reconstruct", run_id, str(picture), *files], service)
    assert refused.returncode == 1
    assert f"{page}: it is not an image of a supported format" in refused.stderr
    status = run_pmae(["status"], service)
    assert (status.returncode, status.stdout.splitlines()[0]) == (0, "ready")
    evaluated = run_pmae(
        ["evaluate", run_id, "--protocol", "knn", "--set", "k=[3]", "--watch"], service
    )
    assert evaluated.returncode == 0, evaluated.stderr
    assert "k-NN" in evaluated.stdout
    wrong = run_pmae(["download", checkpoint.id, str(tmp_path / "x"), "--file", "nothing"], service)
    assert wrong.returncode == 1
    assert "expected one of" in wrong.stderr
    unknown = run_pmae(["submit", "no-such-preset"], service)
    assert unknown.returncode == 1
    assert "quickstart" in unknown.stderr
    missing = run_pmae(["worker", "drain", "no-such-worker"], service)
    assert missing.returncode == 1
    assert "no-such-worker" in missing.stderr


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.timeout(400)
def test_a_drained_worker_gives_its_run_back_until_it_may_take_it_again(
    stack: RunningStack,
) -> None:
    service = {"PMAE_API_URL": stack.api_url}
    with stack.client as client, _submitted(client) as run:
        wait_until(lambda: client.run(run.id).progress.stage == "pretrain", "the start", seconds=90)
        (worker,) = client.workers()
        listed = run_pmae(["worker", "list"], service).stdout
        assert worker.name in listed
        assert f"run {run.id}" in listed

        drained = run_pmae(["worker", "drain", worker.name, "--wait"], service)
        assert drained.returncode == 0, drained.stderr
        assert f"{worker.name} runs nothing" in drained.stdout
        assert client.run(run.id).state == "queued"
        assert "nothing, draining" in run_pmae(["worker", "list"], service).stdout

        assert run_pmae(["worker", "undrain", worker.name], service).returncode == 0
        wait_until(lambda: client.run(run.id).state == "running", "its return", seconds=90)

        with subprocess.Popen(
            [*PMAE, "watch", run.id], env={**os.environ, **service}, stdout=subprocess.PIPE
        ) as watching:
            assert watching.stdout is not None
            assert watching.stdout.readline(), "it has begun to watch"
            watching.send_signal(signal.SIGINT)
            assert watching.wait(timeout=60) == 130, "Ctrl-C stops the watching, not the run"
        assert client.run(run.id).state == "running"

        client.cancel(run.id)
        cancelled = run_pmae(["watch", run.id], service)
        assert cancelled.returncode == 1
        assert f"run {run.id} was cancelled" in cancelled.stdout


@pytest.mark.stack
@pytest.mark.timeout(400)
def test_a_service_that_dies_is_started_again(stack: RunningStack) -> None:
    with PmaeClient(stack.api_url, timeout=30) as client:
        before = client.runs().items
        (api,) = _main_processes(stack, "-m\0api\0")
        os.kill(api, signal.SIGKILL)

        def back() -> bool:
            try:
                return client.ready().ready and _main_processes(stack, "-m\0api\0") != [api]
            except ClientError:
                return False

        wait_until(back, "the API's return", seconds=90)
        assert {run.id for run in client.runs().items} == {run.id for run in before}
    told = (stack.home / "up.log").read_text()
    assert re.search(r"the api ended with status 137; starting it again in [01] s", told)
    assert "Traceback" not in told


@contextmanager
def _submitted(client: PmaeClient) -> Iterator[Run]:
    """A run that does not end by itself, and is not left to the tests after this one."""
    run = client.submit(ENDLESS)
    try:
        yield run
    finally:
        if client.run(run.id).state not in TERMINAL_STATES:
            client.cancel(run.id)


def _main_processes(stack: RunningStack, command: str) -> list[int]:
    """The service's own processes of that command line, not their guards."""
    found = []
    for pid in processes_that_mention(command):
        folder = Path(f"/proc/{pid}")
        environment = (folder / "environ").read_bytes()
        is_guard = b"guard.py" in (folder / "cmdline").read_bytes()
        if not is_guard and f"PMAE_HOME={stack.home}\0".encode() in environment:
            found.append(pid)
    return found
