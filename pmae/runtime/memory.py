"""Memory available to this process. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def available_bytes(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int:
    """Return the available memory in bytes, of the machine or within the container's limit.

    Args:
        meminfo: Linux's table; if missing, all of the machine's memory counts as available.
        cgroup: folder of the process's control group (version 2), as a container sees it.
    """
    limits = (_machine(meminfo), _container(cgroup))
    return min(limit for limit in limits if limit is not None)


def _machine(meminfo: Path) -> int:
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _container(cgroup: Path) -> int | None:
    limit_file, current_file = cgroup / "memory.max", cgroup / "memory.current"
    if not (limit_file.is_file() and current_file.is_file()):
        return None
    limit = limit_file.read_text().strip()
    if limit == "max":
        return None
    stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    in_use = int(current_file.read_text()) - int(stat["inactive_file"])
    return max(0, int(limit) - in_use)
