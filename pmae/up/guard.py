"""Guard: run one service, and let none of its processes outlive the supervisor.

``python -I -S guard.py COMMAND ARGUMENT...``, started in a session of its own. It reacts to:

* SIGTERM: passes it on to the service's main process, which then ends in its own time;
* end of file on standard input (the supervisor closed it, or is gone): kills the service and all
  its descendants at once.

When the main process ends by itself, its remaining descendants are killed too. The exit status is
that of the service, or 128 plus the number of the signal that ended it.

On Linux the guard inherits every orphaned descendant, also those in other sessions, and the main
process dies with the guard. On other systems only the service's process group is killed.

It imports little, and only from the standard library: one guard runs beside every service.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"
_STDIN = 0


def main(command: list[str]) -> int:
    """Run ``command`` until it or standard input ends; return the exit status."""
    signals = _signal_pipe(signal.SIGTERM, signal.SIGCHLD)
    if _LINUX:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
    guard = os.getpid()
    service = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: _die_with(guard),
    )
    while True:
        readable, _, _ = select.select([_STDIN, signals], [], [])
        if _STDIN in readable and not os.read(_STDIN, 1):
            _kill_all(service.pid)
            return 128 + signal.SIGKILL
        if signals in readable:
            received = os.read(signals, 64)
            if signal.SIGCHLD in received and (status := _reap(service.pid)) is not None:
                _kill_all(service.pid)
                return status
            if signal.SIGTERM in received:
                os.kill(service.pid, signal.SIGTERM)  # not reaped yet, so the pid is still its own


def _signal_pipe(*numbers: signal.Signals) -> int:
    """Return a file descriptor that yields the number of each arriving signal as one byte."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    return read


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")


def _die_with(guard: int) -> None:
    """Let this process, about to execute the service, be killed when the guard ends."""
    if not _LINUX:
        return
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:  # killed before the call above took effect
        os._exit(128 + signal.SIGKILL)


def _reap(main_pid: int) -> int | None:
    """Reap the children that have ended; return the exit status of the main process, or None."""
    found = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == main_pid:
                code = os.waitstatus_to_exitcode(status)
                found = 128 - code if code < 0 else code
    return found


def _kill_all(main_pid: int) -> None:
    """Kill every descendant, and wait until they are gone."""
    if not _LINUX:
        # macOS raises PermissionError for a group that consists of zombies only.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(main_pid, signal.SIGKILL)
        return
    # Repeat until there are none: the children of a killed child become ours.
    while children := _children():
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(-1, 0)


def _children() -> list[int]:
    """Return the process ids of this process's children, zombies included."""
    own = os.getpid()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        # "pid (name) state parent ...", and the name may hold brackets and spaces.
        if int(stat.rpartition(")")[2].split()[1]) == own:
            found.append(int(entry.name))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
