"""``python -m pmae.evaluate`` on a real checkpoint, and evaluations while a run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pmae.evaluate.__main__ import _parser, evaluation_of, main
from pmae.evaluate.results import EvaluationResult
from pmae.runs.checkpoints import newest_valid
from pmae.runs.events import EndEvent, EvaluationEvent, StartEvent, read_events
from pmae.runs.layout import RunDir
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec, FinetuneSpec, KnnSpec, LinearProbeSpec, MlpProbeSpec, resolve


def _command(storage: StorageSettings, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={**os.environ, "PMAE_HOME": str(storage.home), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _train(run: RunDir, storage: StorageSettings) -> None:
    process = _command(storage, "pmae.train", str(run.path))
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output


@pytest.fixture
def spec(tiny_spec: ExperimentSpec) -> ExperimentSpec:
    """Curves of two protocols, the second of which takes long enough to be killed in it."""
    return resolve(
        tiny_spec.model_copy(
            update={
                "evaluations": (
                    KnnSpec(k=(3,), at_epochs=(1, 2)),
                    FinetuneSpec(epochs=12, batch_size=20, at_epochs=(2,)),
                    MlpProbeSpec(epochs=2, layers="all"),
                    LinearProbeSpec(epochs=5, baselines=("raw_pixels",)),
                )
            }
        )
    )


def _new_run(folder: Path, spec: ExperimentSpec) -> RunDir:
    folder.mkdir()
    run = RunDir(folder)
    run.spec.write_text(spec.model_dump_json())
    return run


def _told(run: RunDir) -> dict[str, tuple[float, object, object]]:
    """Every evaluation of the newest lease; none stands twice."""
    events = list(read_events(run.leases()[-1].events))
    assert isinstance(events[-1], EndEvent)
    found: dict[str, tuple[float, object, object]] = {}
    for event in events:
        if isinstance(event, EvaluationEvent):
            assert event.key not in found, "an evaluation stands twice"
            details = event.details
            found[event.key] = (event.top1, details["checkpoint_sha256"], details["per_class"])
    return found


def _wait_for(run: RunDir, number: int, text: bytes, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    events = run.lease(number).events
    while time.monotonic() < deadline:
        if events.is_file() and text in events.read_bytes():
            return
        assert process.poll() is None, "the trainer ended early"
        time.sleep(0.002)
    pytest.fail(f"{text!r} was not told")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_evaluations_of_a_killed_run_are_those_of_an_undisturbed_one(
    tmp_path: Path,
    spec: ExperimentSpec,
    storage: StorageSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undisturbed = _new_run(tmp_path / "undisturbed", spec)
    _train(undisturbed, storage)
    expected = _told(undisturbed)
    assert set(expected) == {
        "knn/encoder@1", "knn/encoder@2", "finetune/encoder@2", "knn/encoder", "finetune/encoder",
        "mlp/encoder", "linear/encoder", "linear/raw_pixels",
    }  # fmt: skip

    killed = _new_run(tmp_path / "killed", spec)
    # In the fine-tuning after epoch 2, and in the one at the end, there on request.
    for number, (text, how) in enumerate(
        (
            (b'"knn/encoder@2"', signal.SIGKILL),
            (b'"knn/encoder"', signal.SIGTERM),
        ),
        start=1,
    ):
        process = _command(storage, "pmae.train", str(killed.path))
        _wait_for(killed, number, text, process)
        process.send_signal(how)
        process.communicate(timeout=120)
        assert process.returncode == (75 if how == signal.SIGTERM else -signal.SIGKILL)
    _train(killed, storage)
    assert _told(killed) == expected
    starts = [e for e in read_events(killed.lease(3).events) if isinstance(e, StartEvent)]
    assert [start.resumed_step for start in starts] == [0, 12, 24]
    folders = [newest_valid(run)[0] for run in (undisturbed, killed)]
    weights = [(folder / "model.safetensors").read_bytes() for folder in folders if folder]
    assert weights[0] == weights[1]

    _evaluate_alone(undisturbed, storage, expected)
    picture = tmp_path / "maps.png"
    monkeypatch.setenv("PMAE_HOME", str(storage.home))
    assert (
        main([str(undisturbed.path), "--attention", str(picture), "--block", "0", "--head", "1"])
        == 0
    )
    assert picture.read_bytes().startswith(b"\x89PNG")


def _evaluate_alone(
    run: RunDir,
    storage: StorageSettings,
    expected: dict[str, tuple[float, object, object]],
) -> None:
    """The command gives the figures that the trainer gave, with the trainer's options."""
    checkpoint, _ = newest_valid(run)
    assert checkpoint is not None
    process = _command(
        storage, "pmae.evaluate", str(run.path), "--epochs", "5", "--baselines", "raw_pixels"
    )
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "top-1" in output
    (written,) = (checkpoint / "evaluations").glob("linear-*.json")
    results = [
        EvaluationResult.model_validate(found)
        for found in json.loads(written.read_text())["results"]
    ]
    for result in results:
        told = (result.top1, result.checkpoint_sha256, result.per_class)
        assert told == expected[result.key]
    assert newest_valid(run) == (checkpoint, []), "the checkpoint is still whole"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--protocol", "svm"), "expected linear, mlp, knn or finetune for `protocol`"),
        (("--protocol", "knn", "--epochs", "3"), "epochs: the protocol knn has no such option"),
        (("--layers", "most"), "layers: "),
        (("--max-train-images", "3"), "--dataset"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    tmp_path: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exception, match=message.replace("`", ".")):
        evaluation_of(_parser().parse_args([str(tmp_path), *arguments]))
    assert main([str(tmp_path)]) == 1
    assert "there is no checkpoint" in capsys.readouterr().err
