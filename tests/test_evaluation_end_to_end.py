"""A checkpoint evaluated through the real service, with the trainer killed in the middle."""

from __future__ import annotations

import json
import os
import signal

import pytest

from pmae.schema import TERMINAL_STATES, Run
from pmae.spec import EvaluateSpec
from tests.stack import RunningStack
from tests.support.processes import processes_that_mention
from tests.support.specs import TINY
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(600)]


def _ended(stack: RunningStack, run_id: str) -> Run:
    with stack.client as client:
        wait_until(
            lambda: client.run(run_id).state in TERMINAL_STATES, f"the end of {run_id}", seconds=300
        )
        return client.run(run_id)


def test_an_evaluation_ends_right_though_its_trainer_is_killed(stack: RunningStack) -> None:
    with stack.client as client:
        parent = _ended(stack, client.submit(TINY).id)
        assert parent.state == "succeeded"
        checkpoint = next(client.checkpoints(parent.id, kind="kept"))
        probe = parent.evaluations[0].details["spec"]
        queued = client.evaluate(
            checkpoint.id,
            {
                "evaluations": [
                    {"protocol": "knn", "k": [3]},
                    {"protocol": "mlp", "epochs": 400, "num_seeds": 5},
                    probe,
                ]
            },
        )
        assert isinstance(queued.spec, EvaluateSpec)
        wait_until(lambda: bool(client.run(queued.id).evaluations), "the first result", seconds=120)
        for pid in processes_that_mention(f"{queued.id} --lease"):
            os.kill(pid, signal.SIGKILL)
        run = _ended(stack, queued.id)
        assert run.state == "succeeded"
        assert (run.lease_number, run.parent_id) == (2, parent.id)
        found = {each.key: each for each in run.evaluations}
        assert set(found) == {
            "knn/encoder",
            "mlp/encoder",
            *(each.key for each in parent.evaluations),
        }
        sha256 = checkpoint.files["model.safetensors"].sha256
        assert {each.details["checkpoint_sha256"] for each in run.evaluations} == {sha256}
        for of_parent in parent.evaluations:
            mine, theirs = (
                each.details | {"duration_seconds": None}
                for each in (found[of_parent.key], of_parent)
            )
            assert json.dumps(mine, sort_keys=True) == json.dumps(theirs, sort_keys=True)
        told = [entry.message for entry in client.history(run.id).items]
        assert told.count("evaluation started") == 2
        assert sum(message.startswith("k-NN on encoder") for message in told) == 1
        (listed,) = client.evaluation_runs(parent.id)
        assert (listed.id, listed.top1) == (run.id, parent.top1)
        again = client.checkpoint(checkpoint.id)
        assert again.files == checkpoint.files

        client.delete(parent.id)
        assert client.run(run.id).evaluations == run.evaluations
