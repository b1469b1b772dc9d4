"""What a service's process logs: text for people, or one JSON object a line for programs.

Which run, lease, epoch or request a line is about is not written into each message: it is set once,
with :func:`log_context` or :func:`annotate`, and stands in every line that is logged meanwhile in
the same thread or task (and in threads that :func:`asyncio.to_thread` starts).

`structlog` does not serve: what is logged comes through the standard library (Celery, uvicorn and
SQLAlchemy too), so it would only write the lines, at 17 microseconds each where this takes 11; and
what is bound within one of its blocks stays bound when the block has ended.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType
from typing import Any, Literal

LogFormat = Literal["text", "json"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_context: ContextVar[Mapping[str, Any]] = ContextVar("log_context", default=_NOTHING)
_PASSWORD = re.compile(r"(://[^\s/:@]*):[^\s/@]+@")
_CHATTY = ("alembic", "httpcore", "httpx")
"""They tell of every request and statement; their warnings are kept."""


@contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Put ``fields`` into every line that is logged in the block."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def annotate(**fields: Any) -> None:
    """Put ``fields`` into every line from now on, to the end of the block or task around it."""
    _context.set({**_context.get(), **fields})


def configure_logging(log_format: LogFormat, *, level: int = logging.INFO) -> None:
    """Send what this process logs to standard error, warnings of Python included.

    Loggers that libraries have set up before lose their handlers: there is one place and one form.

    Args:
        log_format: ``text`` or ``json``.
        level: of the least important lines that are kept.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    if log_format == "json":
        sys.excepthook = _log_uncaught


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and what is known of run and request.

    ``extra={"fields": {...}}`` of a call adds fields of that line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        content = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return without_passwords(json.dumps(content, default=str, ensure_ascii=False))


class TextFormatter(logging.Formatter):
    """Time, level, logger and message, then the fields in brackets."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        """The message's line."""
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        line = super().formatMessage(record)
        return f"{line} [{fields}]" if fields else line

    def format(self, record: logging.LogRecord) -> str:
        """The line, and a traceback if there is one."""
        return without_passwords(super().format(record))


def without_passwords(text: str) -> str:
    """``text`` with the passwords in its URLs hidden."""
    return _PASSWORD.sub(r"\1:***@", text)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {**_context.get(), **getattr(record, "fields", {})}


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    logging.getLogger("pmae").critical(
        "the process ends: %s", error, exc_info=(kind, error, traceback)
    )
