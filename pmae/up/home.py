"""The home, the folder of all state: its lock, and the path of the broker's socket."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Self

from pmae.errors import StackError
from pmae.up.configuration import UpSettings

MAX_SOCKET_PATH_BYTES = 103
"""Limit of the systems: 104 bytes on macOS and 108 on Linux, with a final zero byte."""


class HomeLock:
    """Lock of a home while this process runs its services; released even if it is killed."""

    def __init__(self, settings: UpSettings) -> None:
        """Prepare the lock; entering takes it."""
        self._settings = settings
        self._path = settings.working_dir / "supervisor.json"

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            StackError: another process holds it (the message has that one's addresses), or the
                folder cannot be written.
        """
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StackError(
                f"{self._settings.home_dir} cannot hold the service's state: {error.strerror}. "
                "Set PMAE_HOME to a writable folder."
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise StackError(self._who_holds_it()) from None
        os.ftruncate(self._fd, 0)
        facts = {
            "pid": os.getpid(),
            "api": self._settings.api_url,
            "dashboard": self._settings.dashboard_url,
        }
        os.write(self._fd, json.dumps(facts).encode())
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._fd)

    def _who_holds_it(self) -> str:
        home = self._settings.home_dir
        try:
            facts = json.loads(self._path.read_text())
            running = (
                f"The service already runs on {home}: dashboard {facts['dashboard']}, "
                f"API {facts['api']} (process {facts['pid']})."
            )
        except (ValueError, KeyError):  # it has the lock, but has not written its addresses yet
            running = f"The service is being started on {home} by another process."
        return (
            f"{running} Use that one, stop it with Ctrl-C, or start a second one with another "
            "PMAE_HOME, PMAE_API_PORT and PMAE_DASHBOARD_PORT."
        )


def broker_socket(settings: UpSettings) -> Path:
    """Return the path of the broker's socket, in a folder that only this user can enter.

    The folder is in the home, or, if that path is too long for a socket, in the system's temporary
    folder, named by a digest of the home's path.

    Raises:
        StackError: the temporary folder is not private to this user.
    """
    path = settings.working_dir / "broker.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(settings.home_dir)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"pmae-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise StackError(
            f"{folder} is not a private folder of this user. Remove it, or set PMAE_HOME to a "
            "shorter path, so that the broker's socket can lie there."
        )
    return folder / "broker.sock"
