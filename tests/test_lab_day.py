"""A lab's day: everything that its people do with the service, in one go, with keys.

Keys, submitting, following, evaluating, comparing, downloading over a connection that breaks,
reconstructing, deleting, and the garbage; all of it through the client and the command line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pmae.client import ApiError, PmaeClient
from pmae.client.download import part_path
from pmae.schema import TERMINAL_STATES, Run
from pmae.schema.access import Role
from tests.stack import RunningStack, start_stack
from tests.support.commands import run_pmae
from tests.support.specs import TINY
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(600)]
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A service that asks for keys."""
    running = start_stack(tmp_path_factory.mktemp("lab"), {"PMAE_REQUIRE_KEYS": "true"})
    yield running
    assert running.stop() == 0


def _client(lab: RunningStack, name: str, role: Role) -> PmaeClient:
    """Somebody with a key, made where the service runs."""
    made = run_pmae(["keys", "create", name, "--role", role], {"PMAE_HOME": str(lab.home)})
    assert made.returncode == 0, made.stderr
    return PmaeClient(lab.api_url, api_key=made.stdout.strip())


def _ended(client: PmaeClient, run_id: str) -> Run:
    wait_until(
        lambda: client.run(run_id).state in TERMINAL_STATES, f"the end of {run_id}", seconds=300
    )
    return client.run(run_id)


def _fetch_half(client: PmaeClient, checkpoint_id: str, size: int, part: Path) -> None:
    """Fetch a checkpoint's weights by a signed link, and hang up in the middle."""
    (link,) = client.download_links(checkpoint_id, file_name=WEIGHTS)
    with httpx.stream("GET", link.url, trust_env=False) as answer, part.open("wb") as file:
        assert answer.status_code == 200
        for piece in answer.iter_raw(chunk_size=1024):
            file.write(piece)
            if file.tell() >= size // 2:
                return


def test_a_day_in_the_lab(lab: RunningStack, tmp_path: Path) -> None:
    with (
        _client(lab, "ada", "submitter") as ada,
        _client(lab, "ben", "submitter") as ben,
        _client(lab, "cleo", "viewer") as cleo,
        _client(lab, "root", "admin") as admin,
        PmaeClient(lab.api_url) as stranger,
    ):
        # Nobody without a key, and a viewer only looks.
        with pytest.raises(ApiError, match="key"):
            stranger.runs()
        with pytest.raises(ApiError, match="submitter"):
            cleo.submit(TINY)

        # Ada submits, and sends the request again whose answer she lost; Cleo follows to the end.
        first = ada.submit(TINY, idempotency_key="monday")
        assert ada.submit(TINY, idempotency_key="monday").id == first.id
        told = [event.type for event in cleo.events(first.id)]
        assert {"state", "stage", "checkpoint", "evaluation"} <= set(told)
        assert cleo.run(first.id).state == "succeeded"
        assert cleo.run(first.id).owner == "ada"

        # Ben's baseline, then both side by side.
        mae = {**TINY.model_dump(mode="json", exclude={"basis", "masking"}), "method": "mae"}
        second = _ended(ben, ben.submit(mae).id)
        assert second.state == "succeeded", second.reason
        series = cleo.metrics_of_runs([first.id, second.id], names=["val_loss"])
        assert [metrics.run_id for metrics in series] == [first.id, second.id]
        assert all(len(metrics.series[0].value) == TINY.epochs for metrics in series)
        best = cleo.runs(state="succeeded", kind="pretrain", sort="top1").items
        assert {run.id for run in best} == {first.id, second.id}
        assert (best[0].top1 or 0) >= (best[1].top1 or 0)

        # Another evaluation of Ada's last checkpoint, by Ben.
        checkpoint = next(ben.checkpoints(first.id, kind="kept"))
        request = {"evaluations": [{"protocol": "knn", "k": [3]}]}
        evaluated = _ended(ben, ben.evaluate(checkpoint.id, request).id)
        assert [each.key for each in evaluated.evaluations] == ["knn/encoder"]
        assert [run.id for run in cleo.evaluation_runs(first.id)] == [evaluated.id]

        # The weights come over a connection that breaks off.
        target = tmp_path / WEIGHTS
        facts = checkpoint.files[WEIGHTS]
        _fetch_half(cleo, checkpoint.id, facts.size, part_path(target))
        sizes: list[int] = []
        cleo.download(checkpoint.id, WEIGHTS, target, progress=lambda done, _: sizes.append(done))
        assert sizes[0] >= facts.size // 2
        assert hashlib.sha256(target.read_bytes()).hexdigest() == facts.sha256

        # A picture of what it learned.
        assert cleo.reconstruct_png(checkpoint.id).startswith(b"\x89PNG")
        assert cleo.filmstrip(first.id).total == TINY.epochs + 1

        # Only its owner, or an admin, deletes a run; then nothing is left of it.
        with pytest.raises(ApiError, match="ada"):
            ben.delete(first.id)
        ada.delete(first.id)
        folder = lab.home / "artifacts" / "runs" / first.id
        wait_until(lambda: not folder.exists(), "the end of the run's files")
        collected = run_pmae(["gc", "--min-age-hours", "0"], {"PMAE_HOME": str(lab.home)})
        assert collected.returncode == 0, collected.stderr
        assert [run.id for run in cleo.runs(kind="pretrain").items] == [second.id]

        # Who did what.
        done = [(entry.actor, entry.operation) for entry in admin.audit().items]
        assert ("ada", "delete_run") in done
        assert ("ben", "delete_run") in done
        assert ("cleo", "submit_run") in done
