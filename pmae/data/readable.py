"""Check that this process may read files and folders, and explain it if not. Imports no torch."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_EFFECTIVE = os.access in os.supports_effective_ids


def why_unreadable(path: Path) -> str | None:
    """Explain why a file cannot be read, or a folder listed, and how to fix it; None if it can."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            return (
                f"{shown(path)} is a link to {shown(path.readlink())}, which is not there (a "
                "container sees only what is mounted)"
            )
        return f"{shown(path)} is not there"
    except PermissionError:
        closed = next((above for above in reversed(path.parents) if not _may(above, os.X_OK)), path)
        return _refused(closed)
    except OSError as error:
        return f"{shown(path)} cannot be read: {error.strerror}"
    wanted = os.R_OK | os.X_OK if stat.S_ISDIR(facts.st_mode) else os.R_OK
    return None if _may(path, wanted) else _refused(path)


def is_absent(path: Path) -> bool:
    """True if the path does not exist; a dangling link or an inaccessible file does."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def shown(path: Path | str) -> str:
    """Format a path or name for people: escape what is not UTF-8 or not printable."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=_EFFECTIVE)


def _refused(path: Path) -> str:
    try:
        facts = path.stat()
    except OSError as error:
        return f"{shown(path)} cannot be read by user {os.geteuid()}: {error.strerror}"
    kind = "folder" if stat.S_ISDIR(facts.st_mode) else "file"
    return (
        f"the {kind} {shown(path)} cannot be read by user {os.geteuid()}, who this process runs "
        f"as: it belongs to user {facts.st_uid}, with mode {stat.S_IMODE(facts.st_mode):04o}. "
        f"`chmod -R a+rX` of it opens it to all; or let the service run as user {facts.st_uid} "
        "(PMAE_UID with docker compose)"
    )
