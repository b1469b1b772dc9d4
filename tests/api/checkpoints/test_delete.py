"""Deleting a checkpoint: what it takes away, and what it refuses."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import pytest

from pmae.presets import get_preset
from tests.api.live import LiveApi

FILES = {"model.safetensors": b"weights"}


def _refused(answer: httpx.Response, code: str, *words: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (409, code)
    assert all(word in answer.json()["detail"] for word in words)


def test_it_is_gone_and_the_history_says_who(api: LiveApi) -> None:
    run = api.add_run(state="running")
    older = api.add_checkpoint(run, FILES, step=10)
    newest = api.add_checkpoint(run, FILES, step=20)
    assert api.client.delete(f"/checkpoints/{run.id}-00000010").status_code == 204
    assert not older.exists()
    assert newest.is_dir()
    assert api.client.get(f"/checkpoints/{run.id}-00000010").status_code == 404
    listed = api.client.get(f"/runs/{run.id}/checkpoints").json()["items"]
    assert [item["step"] for item in listed] == [20]
    entry = api.client.get(f"/runs/{run.id}/history").json()["items"][-1]
    assert (entry["type"], entry["actor"]) == ("checkpoint", "api")
    assert "step-00000010" in entry["message"]
    assert api.client.delete(f"/checkpoints/{run.id}-00000010").status_code == 404


def test_others_write_while_its_files_are_removed(
    api: LiveApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = api.add_run(state="succeeded")
    folder = api.add_checkpoint(run, FILES, step=10)
    remove, hidden = shutil.rmtree, folder.with_name(f".removed-{folder.name}")
    written: list[int] = []

    def remove_and_write(path: Path) -> None:
        assert (Path(path), folder.exists()) == (hidden, False), "no reader finds it any more"
        written.append(api.add_event(run.number, "meanwhile"))
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", remove_and_write)
    assert api.client.delete(f"/checkpoints/{run.id}-00000010").status_code == 204
    assert len(written) == 1
    assert not hidden.exists()


def test_a_run_that_goes_on_keeps_its_newest(api: LiveApi) -> None:
    run = api.add_run(state="running")
    folder = api.add_checkpoint(run, FILES, step=10)
    _refused(api.client.delete(f"/checkpoints/{run.id}-00000010"), "conflict", "running")
    assert folder.is_dir()


def test_one_that_is_pinned_or_rolling_stays(api: LiveApi) -> None:
    run = api.add_run(state="succeeded")
    folder = api.add_checkpoint(run, FILES, step=10)
    api.add_checkpoint(run, FILES, step=20, kind="latest")
    path = f"/checkpoints/{run.id}-00000010"
    assert api.client.patch(path, json={"pinned": True}).status_code == 200
    _refused(api.client.delete(path), "checkpoint_pinned")
    _refused(api.client.delete(f"/checkpoints/{run.id}-00000020"), "conflict", "rolling")
    assert folder.is_dir()
    assert api.client.patch(path, json={"pinned": False}).status_code == 200
    assert api.client.delete(path).status_code == 204


def test_pinning_waits_for_others_that_write(api: LiveApi) -> None:
    run = api.add_run(state="succeeded")
    api.add_checkpoint(run, FILES, step=10)
    ended = Event()

    def write() -> None:
        while not ended.is_set():
            api.add_event(run.number, "something")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            answers = [
                api.client.patch(f"/checkpoints/{run.id}-00000010", json={"pinned": pinned})
                for pinned in (True, False) * 20
            ]
        finally:
            ended.set()
        writing.result()
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize("state", ["queued", "running"])
def test_one_that_another_run_starts_from_stays(api: LiveApi, state: str) -> None:
    run = api.add_run(state="succeeded")
    api.add_checkpoint(run, FILES, step=10)
    spec = get_preset("quickstart").spec
    source = f"{run.id}/step-00000010"
    other = api.add_run(spec.model_copy(update={"init_from": source}), state=state)
    _refused(api.client.delete(f"/checkpoints/{run.id}-00000010"), "conflict", other.id)
