"""nginx, the peer for downloads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.api.load import Address
from benchmarks.api.servers import process, wait_until_it_answers
from tests.support.ports import free_port

_CONFIGURATION = """
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-errors.log;
events {{ }}
http {{
    access_log off;
    sendfile on;
    server {{
        listen 127.0.0.1:{port};
        location / {{ root {files}; }}
    }}
}}
"""


@contextmanager
def running_nginx(files: Path, folder: Path) -> Iterator[Address]:
    """Run a server of the files in ``files``.

    Raises:
        FileNotFoundError: nginx is not installed.
    """
    # Debian installs it where only root's PATH looks.
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        raise FileNotFoundError("nginx is not installed: with Debian `apt-get install nginx-light`")
    address = Address(free_port())
    configuration = folder / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, port=address.port, files=files))
    command = [found, "-p", str(folder), "-c", str(configuration)]
    with process(command, log=folder / "nginx.log") as server:
        name = next(file.name for file in files.iterdir())
        wait_until_it_answers(server, address, f"/{name}")
        yield address
