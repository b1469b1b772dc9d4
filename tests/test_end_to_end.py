"""A researcher's path through the real service, and what is left when it is stopped or killed."""

from __future__ import annotations

import hashlib
import io
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image
from safetensors.torch import load_file

from pmae.schema import ImageChoice, ReconstructionRequest, Run
from tests.stack import RunningStack, environment, start_stack
from tests.support.ports import free_port
from tests.support.processes import processes_that_mention
from tests.support.specs import ENDLESS, TINY
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


def _ended(stack: RunningStack, run_id: str) -> Run:
    with stack.client as client:
        wait_until(
            lambda: client.run(run_id).state in ("succeeded", "failed", "cancelled"),
            f"the end of {run_id}",
            seconds=180,
        )
        return client.run(run_id)


def test_submit_watch_cancel_finish_download_reconstruct(
    stack: RunningStack, tmp_path: Path
) -> None:
    with stack.client as client:
        endless = client.submit(ENDLESS)
        wait_until(
            lambda: client.run(endless.id).progress.stage == "pretrain", "the start of training"
        )
        wait_until(lambda: any(client.checkpoints(endless.id)), "a checkpoint to look at")
        live = next(client.checkpoints(endless.id))
        assert live.kind == "latest"
        client.cancel(endless.id)
        assert _ended(stack, endless.id).state == "cancelled"
        assert processes_that_mention(endless.id) == []

        submitted = client.submit(TINY)
        types = {event.type for event in client.events(submitted.id)}
        assert {"state", "stage", "checkpoint", "evaluation"} <= types
        run = _ended(stack, submitted.id)
        assert run.state == "succeeded"
        keys = {evaluation.key for evaluation in run.evaluations}
        assert keys == {"linear/encoder", "linear/raw_pixels"}
        series = {found.name: found for found in client.metrics(run.id).series}
        assert series["loss"].step == list(range(1, 21))
        assert series["val_loss"].step == [4, 8, 12, 16, 20]

        kept = next(client.checkpoints(run.id, kind="kept"))
        assert kept.step == 20
        url = client.download_url(kept.id, "model.safetensors")
        whole = httpx.get(url)
        half = len(whole.content) // 2
        etag = whole.headers["etag"]
        rest = httpx.get(url, headers={"Range": f"bytes={half}-", "If-Range": etag})
        assert rest.status_code == 206
        assert whole.content[:half] + rest.content == whole.content
        target = tmp_path / "model.safetensors"
        client.download(kept.id, "model.safetensors", target)
        facts = kept.files["model.safetensors"]
        assert hashlib.sha256(target.read_bytes()).hexdigest() == facts.sha256
        assert "model.encoder.cls_token" in load_file(target)

        request = ReconstructionRequest(images=ImageChoice(indices=[0, 1]), seed=3)
        found = client.reconstruct(kept.id, request)
        assert [image.index for image in found.images] == [0, 1]
        assert 0 < found.num_masked < found.num_total == 64
        sheet = Image.open(io.BytesIO(client.reconstruct_png(kept.id, request)))
        assert sheet.format == "PNG"
        spectrum = client.spectrum(run.id)
        assert sum(spectrum.explained_variance_ratio) == pytest.approx(1)


@pytest.mark.slow
def test_a_restart_finds_all_of_it_again(tmp_path: Path) -> None:
    first = start_stack(tmp_path / "home")
    with first.client as client:
        finished = client.submit(TINY)
        _ended(first, finished.id)
        interrupted = client.submit(TINY.model_copy(update={"epochs": 400}))
        wait_until(
            lambda: (client.run(interrupted.id).progress.done or 0) > 10, "the start of training"
        )
    assert first.stop() == 0
    assert processes_that_mention(str(tmp_path)) == []
    second = start_stack(tmp_path / "home")
    try:
        with second.client as client:
            again = client.run(finished.id)
            assert again.state == "succeeded"
            assert list(client.checkpoints(finished.id))
        resumed = _ended(second, interrupted.id)
        assert resumed.state == "succeeded"
        assert (resumed.attempt, resumed.lease_number) == (1, 2)
        with second.client as client:
            series = {found.name: found for found in client.metrics(interrupted.id).series}
        assert series["train_loss"].step == list(range(4, 1601, 4))
    finally:
        second.process.kill()
        second.process.wait()
    wait_until(lambda: not processes_that_mention(str(tmp_path)), "the end of every process")


def _demo(home: Path, api_port: int, dashboard_port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from pmae.cli import main; main()", "demo", "--exit"],
        env=environment(home, api_port, dashboard_port),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_second_demo_and_a_taken_port_are_told_in_a_sentence(
    stack: RunningStack, tmp_path: Path
) -> None:
    beside = _demo(stack.home, free_port(), free_port())
    assert beside.returncode == 1
    assert stack.dashboard_url in beside.stderr.replace("\n", "")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = _demo(tmp_path / "home", port, free_port())
    assert refused.returncode == 1
    assert str(port) in refused.stderr
    assert "PMAE_API_PORT" in refused.stderr
    for output in (beside.stderr, refused.stderr):
        assert "Traceback" not in output


@pytest.mark.slow
def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    stack = start_stack(tmp_path / "home")
    with stack.client as client:
        run = client.submit(ENDLESS)
        wait_until(lambda: client.run(run.id).progress.stage == "pretrain", "the start of training")
        (name,) = (worker.name for worker in client.workers())
    assert processes_that_mention(run.id)
    stack.process.send_signal(signal.SIGKILL)
    stack.process.wait()
    wait_until(lambda: not processes_that_mention(str(tmp_path)), "the end of every process")

    stack = start_stack(tmp_path / "home")
    try:
        with stack.client as client:

            def told() -> list[str]:
                return [event.message for event in client.history(run.id).items]

            wait_until(lambda: told().count("started by " + name) == 2, "the next start of the run")
            assert "its worker died and was restarted" in told(), "its lease was waited for"
    finally:
        status = stack.stop()
    assert status == 0
