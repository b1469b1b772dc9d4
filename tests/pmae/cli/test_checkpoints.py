"""Checkpoints from the command line: downloads that break off, or are not what they say."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from api.db.tables import RunRow
from pmae.schema import CheckpointPage, Run
from tests.api.live import LiveApi
from tests.pmae.cli.conftest import Command
from tests.support.relay import relay_to

WEIGHTS = bytes(range(256)) * 8_000
FILES = {"model.safetensors": WEIGHTS, "trainer.pt": b"state"}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Where the commands run."""
    return tmp_path / "here"


@pytest.fixture
def run(api: LiveApi) -> RunRow:
    run = api.add_run(state="succeeded")
    api.add_checkpoint(run, FILES)
    api.add_checkpoint(run, {"model.safetensors": b"older"}, step=320)
    api.add_checkpoint(run, {"model.safetensors": b"rolling"}, step=700, kind="latest")
    return run


def test_they_are_listed(run: RunRow, pmae: Command) -> None:
    listed = CheckpointPage.model_validate_json(pmae("checkpoints", run.id, "--json").stdout)
    assert [one.step for one in listed.items] == [700, 640, 320]
    rows = [line.split("\t") for line in pmae("checkpoints", run.id[:8]).stdout.splitlines()]
    assert rows[2][:5] == [f"{run.id}-00000640", "kept", "640", "64", "2.05 MB"]


def test_a_run_s_newest_kept_one_goes_to_a_folder_of_its_name(
    run: RunRow, pmae: Command, here: Path
) -> None:
    done = pmae("download", run.id[:8], "--all")
    assert (done.returncode, done.stderr) == (0, "")
    folder = here / f"{run.id}-00000640"
    found = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert json.loads(found.pop("manifest.json"))["name"] == "step-00000640"
    assert found == FILES
    assert done.stdout.splitlines()[0] == f"{folder.name}/model.safetensors: sha256 verified"
    one = pmae("download", f"{run.id[:8]}-00000320", "older.safetensors")
    assert one.returncode == 0
    assert (here / "older.safetensors").read_bytes() == b"older"
    other = pmae("download", run.id, ".", "--file", "trainer.pt")
    assert other.returncode == 0
    assert (here / "trainer.pt").read_bytes() == b"state"


def test_one_is_pinned_linked_and_deleted(run: RunRow, pmae: Command) -> None:
    kept, older = f"{run.id}-00000640", f"{run.id}-00000320"
    assert pmae("checkpoint", "pin", run.id).stdout == f"{kept} is pinned\n"
    refused = pmae("checkpoint", "delete", kept)
    assert refused.returncode == 1
    assert "pinned" in refused.stderr
    assert pmae("checkpoint", "unpin", kept).returncode == 0
    header, *rows = pmae("checkpoint", "link", kept).stdout.splitlines()
    assert header.split("\t") == ["file", "until", "address"]
    addresses = {row.split("\t")[0]: row.split("\t")[2] for row in rows}
    assert set(addresses) == set(FILES)
    fetched = httpx.get(addresses["trainer.pt"], trust_env=False)
    assert fetched.content == FILES["trainer.pt"]
    assert pmae("checkpoint", "delete", older).stdout == f"{older} is deleted\n"
    assert older not in pmae("checkpoints", run.id).stdout


def test_what_cannot_be_downloaded(api: LiveApi, run: RunRow, pmae: Command) -> None:
    empty = api.add_run()
    for arguments, status, told in (
        ([run.id, "x", "--file", "nothing"], 1, "valid are model.safetensors"),
        ([run.id, "no/such/folder/x"], 1, "there is no folder no/such/folder"),
        ([f"{run.id}-00009999"], 1, f"no checkpoint {run.id}-00009999"),
        ([empty.id], 1, "has no kept checkpoint"),
        ([run.id, "--all", "--file", "trainer.pt"], 2, "exclude each other"),
        ([], 2, "Missing argument"),
    ):
        done = pmae("download", *arguments)
        assert (done.returncode, done.stdout) == (status, "")
        assert told in done.stderr
        assert "Traceback" not in done.stderr


def test_one_that_breaks_off_is_gone_on_with(
    api: LiveApi, run: RunRow, pmae: Command, here: Path
) -> None:
    port = httpx.URL(api.url).port
    assert port is not None
    with relay_to(port, cut_after=len(WEIGHTS) * 3 // 4) as relay:
        broken = pmae("download", run.id, "w", PMAE_API_URL=relay.url)
        assert broken.returncode == 1
        assert "call again to go on from there" in broken.stderr
        assert "Traceback" not in broken.stderr
        assert not (here / "w").exists()
        part = (here / "w.part").stat().st_size
        assert 0 < part < len(WEIGHTS)
        relay.passed = 0
        whole = pmae("download", run.id, "w", PMAE_API_URL=relay.url)
        assert whole.returncode == 0, whole.stderr
        assert relay.passed < len(WEIGHTS) - part + 20_000, "only the rest came"
    assert (here / "w").read_bytes() == WEIGHTS
    assert not (here / "w.part").exists()


def test_one_of_another_digest_is_an_error_and_leaves_no_file(
    api: LiveApi, run: RunRow, pmae: Command, here: Path
) -> None:
    stored = api.run_dir(run.id).lease(1).checkpoints / "step-00000640" / "model.safetensors"
    stored.write_bytes(WEIGHTS[::-1])
    done = pmae("download", run.id, "w")
    assert (done.returncode, done.stdout) == (1, "")
    assert "SHA-256" in done.stderr
    assert list(here.iterdir()) == []


def test_an_evaluation_is_queued_with_the_changes_of_each_protocol(
    api: LiveApi, run: RunRow, pmae: Command
) -> None:
    done = pmae(
        *("evaluate", run.id, "--protocol", "knn", "--protocol", "linear", "--json"),
        *("--set", "features=mean", "--name", "both", "--tag", "late", "--priority", "2"),
    )
    assert done.returncode == 0, done.stderr
    queued = Run.model_validate_json(done.stdout)
    assert (queued.name, queued.priority, queued.tags) == ("both", 2, ["late"])
    assert queued.spec.kind == "evaluate"
    assert queued.spec.checkpoint == f"{run.id}/step-00000640"
    told = [(one.protocol, one.features) for one in queued.spec.evaluations]
    assert told == [("knn", "mean"), ("linear", "mean")]
    for arguments, status, message in (
        (["--protocol", "svm"], 2, "linear, mlp, knn, finetune"),
        (["--protocol", "knn", "--set", "base_lr=1"], 1, "no field base_lr"),
        ([], 2, "Missing option '--protocol'"),
    ):
        refused = pmae("evaluate", run.id, *arguments)
        assert refused.returncode == status
        assert message in refused.stderr


def test_files_in_place_of_the_data_sets_images(run: RunRow, pmae: Command, here: Path) -> None:
    files = [here.parent / f"{number}.png" for number in range(33)]
    for file in files:
        file.write_bytes(b"no image")
    given = [part for file in files for part in ("--image", str(file))]
    for arguments, status, told in (
        (["--image", "nothing.png"], 2, "does not exist"),
        ([*given[:2], "--images", "3"], 2, "valid is one of the two"),
        ([*given[:2], "--split", "val"], 2, "valid is one of the two"),
        (given, 2, "33 files; valid are up to 32"),
    ):
        done = pmae("reconstruct", run.id, "x.png", *arguments)
        assert (done.returncode, told in done.stderr) == (status, True), done.stderr
    assert list(here.iterdir()) == []


def test_pictures_that_cannot_be_asked_for(run: RunRow, pmae: Command, here: Path) -> None:
    for arguments, status, told in (
        (["reconstruct", run.id, "x.png", "--images", "7-3"], 2, "write 3-7"),
        (["reconstruct", run.id, "x.png", "--components", "a"], 2, "for example 0-9,12"),
        (["reconstruct", run.id, "x.png", "--ratio", "2"], 2, "above 0 and below 1"),
        (["reconstruct", run.id, "x.png", "--ratio", "0.2", "--components", "1"], 2, "one of the"),
        (["reconstruct", run.id, "x.jpg"], 1, "valid is a name that ends in .png"),
        (["reconstruct", run.id, "no/x.png"], 1, "there is no folder no to write to"),
        (["filmstrip", run.id, "x.png"], 1, "has no frames yet"),
    ):
        done = pmae(*arguments)
        assert done.returncode == status, done.stderr
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    assert list(here.iterdir()) == []
