"""Looking at runs and changing them from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from api.settings import ApiSettings
from pmae.schema import Metrics, Queue, Readiness, Run
from tests.api.auth.conftest import LockedApi
from tests.api.live import LiveApi, live_api
from tests.pmae.cli.conftest import Command
from tests.support.commands import PMAE
from tests.support.waiting import wait_until


def test_a_run_is_named_by_the_first_characters_of_its_id(api: LiveApi, pmae: Command) -> None:
    api.add_run(id="abcd00000001", name="the first")
    api.add_run(id="abcd00000002", name="eeee")
    shown = pmae("show", "ABCD00000001", "--json")
    assert Run.model_validate_json(shown.stdout).name == "the first"
    several = pmae("show", "abcd")
    assert several.returncode == 1
    assert "abcd00000001" in several.stderr
    assert "abcd00000002" in several.stderr
    api.add_run(id="ffff00000003", name="another, not abcd")
    alone = pmae("show", "fffF")
    assert alone.returncode == 0
    assert "ffff00000003" in alone.stdout
    assert "another, not abcd" in alone.stdout
    for wrong, told in (("abc", "first 4 or more"), ("xyzt", "names no run"), ("eeee", "begins")):
        done = pmae("show", wrong)
        assert done.returncode == 1
        assert told in done.stderr


def test_what_people_say_of_a_run_is_changed_and_stands_in_its_history(
    api: LiveApi, pmae: Command
) -> None:
    run = api.add_run(tags=["old", "paper"])
    done = pmae(
        *("change", run.id, "--name", "third try", "--notes", "no warm-up", "--pin"),
        *("--tag", "new", "--tag", "paper", "--untag", "old", "--priority", "3"),
    )
    assert (done.returncode, done.stdout) == (0, f"{run.id} is changed\n"), done.stderr
    found = Run.model_validate_json(pmae("show", run.id, "--json").stdout)
    assert (found.name, found.notes, found.pinned, found.priority) == (
        "third try",
        "no warm-up",
        True,
        3,
    )
    assert found.tags == ["paper", "new"]
    assert pmae("change", run.id, "--unpin", "--untag", "absent").returncode == 0
    assert Run.model_validate_json(pmae("show", run.id, "--json").stdout).tags == ["paper", "new"]
    nothing = pmae("change", run.id)
    assert nothing.returncode == 2
    assert "there is nothing to change" in nothing.stderr
    assert "name" in pmae("change", run.id, "--name", " ").stderr
    header, *rows = (line.split("\t") for line in pmae("history", run.id).stdout.splitlines())
    assert header == ["when", "who", "what", "message"]
    assert [row[2] for row in rows] == ["state", "change", "change"]


def test_states_are_changed_of_each_run_that_can(api: LiveApi, pmae: Command) -> None:
    queued, ended = api.add_run(), api.add_run(state="succeeded")
    done = pmae("cancel", ended.id, queued.id)
    assert done.returncode == 1, "one has refused"
    assert done.stdout == f"{queued.id} is cancelled\n", "and keeps nothing from the other"
    assert len(done.stderr.splitlines()) == 1
    assert pmae("resume", queued.id).stdout == f"{queued.id} is queued\n"
    again = pmae("rerun", ended.id)
    copy = Run.model_validate_json(api.client.get(f"/runs/{again.stdout.strip()}").content)
    assert copy.rerun_of == ended.id
    waiting = Queue.model_validate_json(pmae("queue", "--json").stdout)
    assert {run.run_id for run in waiting.items} == {queued.id, copy.id}
    listed = pmae("queue").stdout.splitlines()
    assert len(listed) == 3
    assert "no worker" in listed[1]
    assert pmae("delete", ended.id).stdout == f"{ended.id} is deleted\n"
    gone = pmae("show", ended.id)
    assert gone.returncode == 1
    assert f"there is no run {ended.id}" in gone.stderr
    refused = pmae("delete", copy.id)
    assert refused.returncode == 1, "it has not ended"


def test_metrics_as_a_table_json_and_csv(api: LiveApi, pmae: Command) -> None:
    run = api.add_run()
    api.add_metrics(run.number, "loss", [3.0, 1.0, 2.0])
    api.add_metrics(run.number, "lr", [0.1])
    table = [line.split("\t") for line in pmae("metrics", run.id).stdout.splitlines()]
    assert table[1] == ["loss", "3", "3", "2", "1", "3"]
    only = Metrics.model_validate_json(pmae("metrics", run.id, "--name", "lr", "--json").stdout)
    assert [series.name for series in only.series] == ["lr"]
    lines = pmae("metrics", run.id, "--name", "loss", "--csv").stdout.splitlines()
    assert lines[0] == "run,name,step,epoch,time,value"
    assert [line.split(",")[-1] for line in lines[1:]] == ["3.0", "1.0", "2.0"]
    missing = pmae("metrics", run.id, "--name", "val_loss")
    assert missing.returncode == 1
    assert "has no metric val_loss (yet)" in missing.stderr
    unknown = pmae("metrics", run.id, "--name", "no_such")
    assert unknown.returncode == 2
    assert "val_online_probe_accuracy" in unknown.stderr
    assert pmae("metrics", run.id, "--csv", "--json").returncode == 2


def test_a_service_that_is_not_ready_is_told_with_what_is_missing(
    api: LiveApi, pmae: Command
) -> None:
    done = pmae("status")
    assert done.returncode == 1, "there is no broker"
    assert done.stdout.startswith("not ready\n")
    assert "database: ok" in done.stdout
    assert "no worker is up; queued runs wait" in done.stderr
    api.add_worker(drain_requested=True)
    assert "every worker is being drained" in pmae("status").stderr
    api.add_worker("other")
    assert pmae("status").stderr == ""
    as_json = pmae("status", "--json")
    assert as_json.returncode == 1
    assert not Readiness.model_validate_json(as_json.stdout).ready
    assert [one["name"] for one in json.loads(pmae("workers", "--json").stdout)] == ["other", "w"]


def test_the_key_in_the_environment_is_used(api_settings: ApiSettings, pmae: Command) -> None:
    settings = api_settings.model_copy(update={"require_keys": True})
    with live_api(settings) as served:
        locked = LockedApi(served)
        without = pmae("list", PMAE_API_URL=served.url)
        assert without.returncode == 1
        assert "key" in without.stderr
        viewer, owner = locked.key("eve").key, locked.key("ada", "submitter").key
        assert pmae("list", PMAE_API_URL=served.url, PMAE_API_KEY=viewer).returncode == 0
        refused = pmae("submit", "quickstart", PMAE_API_URL=served.url, PMAE_API_KEY=viewer)
        assert refused.returncode == 1
        assert viewer not in refused.stderr
        made = pmae("submit", "quickstart", "--json", PMAE_API_URL=served.url, PMAE_API_KEY=owner)
        assert Run.model_validate_json(made.stdout).owner == "ada"


@pytest.mark.parametrize("command", ["list", "show abcdef012345", "logs abcd", "queue", "status"])
def test_nobody_there_is_a_sentence(command: str, pmae: Command) -> None:
    done = pmae(*command.split(), PMAE_API_URL="http://127.0.0.1:1")
    assert done.returncode == 1
    assert "no answer from http://127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_log_of_all_attempts_is_followed_until_the_run_ends(
    api: LiveApi, pmae: Command
) -> None:
    run = api.add_run(state="running")
    first, second = api.run_dir(run.id).lease(1), api.run_dir(run.id).lease(2)
    for lease in (first, second):
        lease.path.mkdir(parents=True)
    first.log.write_text("one\ntwo\nthrée")
    assert pmae("logs", run.id).stdout == "one\ntwo\nthrée"
    assert pmae("logs", run.id, "--tail", "2").stdout == "two\nthrée"
    assert pmae("logs", run.id, "--tail", "0").stdout == ""
    assert pmae("logs", run.id, "--tail", "9").stdout == "one\ntwo\nthrée"
    with _following(api, run.id, "--tail", "2") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "two\n"
        _append(first.log, "\nfour\n")
        assert following.stdout.readline() == "thrée\n"
        assert following.stdout.readline() == "four\n"
        api.add_event(run.number, "given back", state="queued")
        second.log.write_text("the second attempt\n")
        assert following.stdout.readline() == "the second attempt\n"
        _append(second.log, "the last line")
        api.add_event(run.number, "done", state="succeeded")
        assert following.stdout.read() == "the last line"
        assert following.wait(timeout=60) == 0


def test_a_long_log_is_tailed_from_its_end(api: LiveApi, pmae: Command) -> None:
    run = api.add_run(state="succeeded")
    lease = api.run_dir(run.id).lease(1)
    lease.path.mkdir(parents=True)
    lines = [f"line {number} {'x' * 90}\n" for number in range(5_000)]
    lease.log.write_text("".join(lines))
    assert pmae("logs", run.id, "--tail", "3000").stdout == "".join(lines[-3000:])
    assert pmae("logs", run.id, "-f").stdout == "".join(lines), "an ended one is followed to there"


def test_ctrl_c_stops_the_following(api: LiveApi) -> None:
    run = api.add_run(state="running")
    lease = api.run_dir(run.id).lease(1)
    lease.path.mkdir(parents=True)
    lease.log.write_text("begun\n")
    with _following(api, run.id) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "begun\n"
        following.send_signal(signal.SIGINT)
        assert following.wait(timeout=60) == 130
    wait_until(lambda: following.poll() is not None, "its end")


def _following(api: LiveApi, run_id: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PMAE, "logs", run_id, "-f", *arguments],
        env={**os.environ, "PMAE_API_URL": api.url},
        stdout=subprocess.PIPE,
        text=True,
    )


def _append(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def test_watching_ends_when_the_run_is_deleted(api: LiveApi, pmae: Command) -> None:
    gone = api.add_run(state="failed")
    api.client.delete(f"/runs/{gone.id}")
    watched = pmae("watch", gone.id)
    assert watched.returncode == 1
    assert f"there is no run {gone.id}" in watched.stderr
