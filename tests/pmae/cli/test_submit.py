"""Submitting from the command line: over presets, files and standard input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pmae.presets import get_preset
from pmae.schema import Run
from pmae.schema.runs import SubmitPreview
from pmae.spec import resolve
from pmae.spec.run_spec import parse_spec
from tests.api.live import LiveApi
from tests.pmae.cli.conftest import Command
from tests.support.commands import run_pmae


def submitted(api: LiveApi, printed: str) -> Run:
    """The run whose id is all that a command has printed."""
    return Run.model_validate_json(api.client.get(f"/runs/{printed.strip()}").content)


def test_changes_over_a_preset(api: LiveApi, pmae: Command) -> None:
    done = pmae(
        *("submit", "quickstart", "--name", "mine", "--tag", "a", "--tag", "b", "--priority", "7"),
        *("--set", "masking.ratio=0.3", "--set", "model.decoder_depth=1"),
        *("--set", "evaluations=[{protocol: knn, k: [3]}]", "--set", "optimizer.base_lr=1e-3"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    run = submitted(api, done.stdout)
    preset = get_preset("quickstart").spec
    assert (run.preset, run.name, run.priority) == ("quickstart", "mine", 7)
    assert run.tags == [*preset.tags, "a", "b"]
    spec = run.spec
    assert spec.kind == "pretrain"
    assert (spec.masking.ratio, spec.model.decoder_depth) == (0.3, 1)
    assert spec.optimizer.base_lr == 1e-3
    assert [one.protocol for one in spec.evaluations] == ["knn"]
    assert spec.epochs == preset.epochs, "what is not changed is the preset's"


def test_a_familys_preset_is_submitted_by_its_parameters(api: LiveApi, pmae: Command) -> None:
    name = "paper?dataset=bloodmnist&method=mae&ratio=0.1-0.9"
    done = pmae("submit", name, "--tag", "a", "--set", "epochs=3")
    assert (done.returncode, done.stderr) == (0, "")
    run = submitted(api, done.stdout)
    spec = get_preset(name).spec
    assert (run.preset, run.name) == (name, "bloodmnist_mae_0.1-0.9")
    assert run.tags == [*spec.tags, "a"]
    assert run.spec == resolve(spec.model_copy(update={"epochs": 3, "tags": tuple(run.tags)}))
    wrong = pmae("submit", "paper?dataset=blood")
    assert wrong.returncode == 1
    assert "dataset='blood'; expected one of cifar10" in wrong.stderr


def test_a_dry_run_prints_what_would_be_queued(api: LiveApi, pmae: Command, tmp_path: Path) -> None:
    done = pmae("submit", "quickstart", "--set", "epochs=3", "--dry-run")
    assert done.returncode == 0
    assert api.count_runs() == 0
    preset = get_preset("quickstart").spec
    expected = resolve(preset.model_copy(update={"epochs": 3}))
    assert parse_spec(yaml.safe_load(done.stdout), "the output") == expected
    facts = dict(line.split(maxsplit=1) for line in done.stderr.splitlines())
    steps = 3 * (1259 // preset.batch_size)
    assert (facts["images"], facts["steps"]) == ("1,259", str(steps))
    assert facts["parameters"].endswith("the encoder's)")

    kept = tmp_path / "kept.yaml"
    kept.write_text(done.stdout)
    machine = pmae("submit", str(kept), "--dry-run", "--json")
    assert machine.returncode == 0
    assert SubmitPreview.model_validate_json(machine.stdout).spec == expected
    both = pmae("submit", str(kept), "--dry-run", "--watch")
    assert both.returncode == 2
    assert "--watch" in both.stderr
    assert api.count_runs() == 0


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_changes_over_a_file(form: str, api: LiveApi, pmae: Command, tmp_path: Path) -> None:
    file = tmp_path / f"spec.{form}"
    fields = {
        "dataset": {"name": "digits"},
        "masking": {"strategy": "top", "ratio": 0.1},
        "epochs": 3,
        "tags": ["filed"],
        "seed": 9,
    }
    text = (
        json.dumps(fields)
        if form == "json"
        else "\n".join(f"{name}: {json.dumps(value)}" for name, value in fields.items())
    )
    file.write_text(text)
    done = pmae(
        *("submit", str(file), "--json", "--tag", "more"),
        *("--set", "masking.ratio=0.3", "--set", "seed=null"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    run = Run.model_validate_json(done.stdout)
    assert run == Run.model_validate_json(api.client.get(f"/runs/{run.id}").content).model_copy(
        update={"reason": run.reason}
    )
    spec = run.spec
    assert spec.kind == "pretrain"
    assert (spec.masking.strategy, spec.masking.ratio) == ("top", 0.3)
    assert (spec.epochs, spec.seed) == (3, 0)
    assert run.tags == ["filed", "more"]
    assert run.preset is None


def test_standard_input(api: LiveApi, tmp_path: Path) -> None:
    for text, status in (("dataset: {name: digits}\n", 0), ("- no spec\n", 1)):
        done = run_pmae(["submit", "-"], {"PMAE_API_URL": api.url}, cwd=tmp_path, text=text)
        assert done.returncode == status, done.stderr
    assert "standard input does not hold a spec" in done.stderr
    assert api.count_runs() == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "masking.rato=0.3"], "the nearest are masking.ratio"),
        (["--set", "ratio=0.3"], "the nearest are masking.ratio"),
        (["--set", "evaluations.0.k=3"], "evaluations has no fields of its own"),
        (["--set", "epochs"], "expected path=value"),
    ],
)
@pytest.mark.parametrize("command", ["submit", "train"])
def test_a_path_that_a_spec_has_not_is_refused_before_anything_is_sent(
    command: str, arguments: list[str], told: str, tmp_path: Path
) -> None:
    folder = [str(tmp_path / "run")] if command == "train" else []
    # Nothing listens on port 1: whoever asked would be told so.
    done = run_pmae(
        [command, "quickstart", *folder, *arguments], {"PMAE_API_URL": "http://127.0.0.1:1"}
    )
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_what_the_service_refuses_is_a_sentence_that_names_the_field(pmae: Command) -> None:
    done = pmae("submit", "quickstart", "--set", "masking.ratio=3")
    assert (done.returncode, done.stdout) == (1, "")
    assert "masking/ratio" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    missing = pmae("submit", "no/such.yaml")
    assert missing.returncode == 1
    assert "no/such.yaml cannot be read" in missing.stderr


def test_training_takes_the_same_changes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    changes = ["--set", "epochs=1", "--set", "evaluations=[]", "--set", "model.depth=1"]
    arguments = [
        "train",
        "quickstart",
        str(folder),
        *changes,
        "--set",
        "dataset.max_train_images=200",
    ]
    done = run_pmae(arguments, {"PMAE_HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    spec = json.loads((folder / "spec.json").read_text())
    assert (spec["epochs"], spec["evaluations"], spec["model"]["depth"]) == (1, [], 1)
    again = run_pmae(arguments, {"PMAE_HOME": str(tmp_path)})
    assert again.returncode == 0, "the same spec resumes"


def test_a_dry_run_says_that_the_checkpoint_to_start_from_is_not_there(
    api: LiveApi, pmae: Command
) -> None:
    done = pmae(
        *("submit", "quickstart", "--dry-run"), *("--set", "init_from=0123456789ab/step-00000640")
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "/init_from: there is no checkpoint 0123456789ab-00000640" in done.stderr
