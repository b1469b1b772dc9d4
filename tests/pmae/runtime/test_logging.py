"""What a line of a service's log holds, and what it never holds."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pmae.runtime.logging import without_passwords

LOG = """
import asyncio, logging, sys, warnings
from pmae.runtime.logging import annotate, configure_logging, log_context
configure_logging(sys.argv[1])
log = logging.getLogger("some.part")
log.info("before")
with log_context(run_id="abc", lease=2):
    log.info("inside %d", 1, extra={"fields": {"status": 200}})
    annotate(epoch=3.5)
    asyncio.run(asyncio.to_thread(log.warning, "in a thread"))
log.info("after")
log.debug("too small a thing")
logging.getLogger("httpx").info("GET /")
warnings.warn("a warning")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("cannot reach postgresql+psycopg://me:s3cret@host/db")
raise RuntimeError("redis://:s3cret@host: the end")
"""


def run(log_format: str) -> list[str]:
    command = [sys.executable, "-c", LOG, log_format]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_json_is_one_object_a_line() -> None:
    lines = [json.loads(line) for line in run("json")]
    before, inside, in_thread, after, warned, failed, ended = lines
    assert before == {
        "time": before["time"], "level": "info", "logger": "some.part", "message": "before"
    }  # fmt: skip
    assert before["time"].endswith("+00:00")
    about = {"run_id": "abc", "lease": 2}
    assert inside.items() >= (about | {"message": "inside 1", "status": 200}).items()
    assert in_thread.items() >= (about | {"epoch": 3.5, "level": "warning"}).items()
    assert after.keys() == before.keys(), "the block's end takes its fields away"
    assert "a warning" in warned["message"]
    assert "ZeroDivisionError" in failed["exception"]
    assert ended["level"] == "critical"
    assert "s3cret" not in json.dumps(lines)
    assert "postgresql+psycopg://me:***@host/db" in failed["message"]
    assert "the end" in ended["message"]


def test_text_has_the_same_facts_in_brackets() -> None:
    lines = run("text")
    assert lines[0].endswith("INFO some.part: before")
    assert lines[1].endswith("INFO some.part: inside 1 [run_id=abc lease=2 status=200]")
    assert lines[2].endswith("WARNING some.part: in a thread [run_id=abc lease=2 epoch=3.5]")
    logged = "\n".join(lines[: lines.index("Traceback (most recent call last):")])
    assert "s3cret" not in logged


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("redis://:pw@h:1/0", "redis://:***@h:1/0"),
        ("a postgresql+psycopg://u:p%40w@h/db b", "a postgresql+psycopg://u:***@h/db b"),
        ("http://127.0.0.1:8000/a@b", "http://127.0.0.1:8000/a@b"),
        ("nobody@example.org: hello", "nobody@example.org: hello"),
    ],
)
def test_passwords_of_urls_are_hidden(text: str, hidden: str) -> None:
    assert without_passwords(text) == hidden
