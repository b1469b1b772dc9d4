"""The deployment behind Caddy, reached by its name and with its certificate authority."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from pmae.schema import Run
from tests.docker.compose import TLS
from tests.docker.engine.lab import (
    DOMAIN,
    WEIGHTS,
    Lab,
    shell,
)

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1800)]


class Proxied:
    """The service as it is reached through the proxy, by its name and with its authority."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.folder = lab.folder / "certificates"
        self.folder.mkdir(mode=0o755)
        root = shell(lab.containers("caddy")[0], "cat /data/caddy/pki/authorities/local/root.crt")
        self.authority = self.folder / "root.crt"
        self.authority.write_text(root.stdout)
        self.url = f"https://{DOMAIN}:{lab.https_port}"

    def curl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run curl, which resolves the name to this machine."""
        command = ["curl", "-sS", "--noproxy", "*", "--cacert", str(self.authority)]
        command += ["--resolve", f"{DOMAIN}:{self.lab.https_port}:127.0.0.1", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def proxied(lab: Lab, quickstart: Run) -> Iterator[Proxied]:
    """The deployment with docker/compose.tls.yml, and then without it again."""
    lab.use(TLS)
    lab.up()
    yield Proxied(lab)
    lab.use()
    lab.up("--remove-orphans")


def test_a_download_through_the_proxy_is_broken_off_and_goes_on(
    proxied: Proxied, quickstart: Run, tmp_path: Path
) -> None:
    authorized = ["-H", f"Authorization: Bearer {proxied.lab.key}"]
    api = f"{proxied.url}/api/v1"
    found = json.loads(
        proxied.curl(*authorized, f"{api}/runs/{quickstart.id}/checkpoints?kind=kept").stdout
    )
    checkpoint = found["items"][0]
    facts = checkpoint["files"][WEIGHTS]
    made = proxied.curl(*authorized, "-X", "POST", f"{api}/checkpoints/{checkpoint['id']}/links")
    links = {item["file_name"]: item["url"] for item in json.loads(made.stdout)["items"]}
    url, target = proxied.url + links[WEIGHTS], tmp_path / WEIGHTS

    slowly = proxied.curl("--limit-rate", "1M", "--max-time", "1", "-o", str(target), url)
    assert slowly.returncode == 28, slowly.stderr
    begun = target.read_bytes()
    assert 0 < len(begun) < facts["size"]
    resumed = proxied.curl("-C", "-", "-D", "-", "-o", str(target), url)
    assert resumed.returncode == 0, resumed.stderr
    assert " 206" in resumed.stdout.splitlines()[0]
    assert "strict-transport-security" in resumed.stdout.lower()
    assert hashlib.sha256(target.read_bytes()).hexdigest() == facts["sha256"]

    # The same by `pmae download`, in a container of the network, where the name means the proxy.
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    (out / f"{WEIGHTS}.part").write_bytes(begun)
    (out / f"{WEIGHTS}.part").chmod(0o666)
    mounts = ["-v", f"{proxied.folder}:/authority:ro", "-v", f"{out}:/out"]
    settings = {
        "SSL_CERT_FILE": "/authority/root.crt",
        "PMAE_API_URL": f"https://{DOMAIN}",
        "PMAE_API_KEY": str(proxied.lab.key),
    }
    given = [part for name, value in settings.items() for part in ("-e", f"{name}={value}")]
    command = ["pmae", "download", checkpoint["id"], f"/out/{WEIGHTS}"]
    proxied.lab.compose("run", "--rm", "-T", "--no-deps", *mounts, *given, "api", *command)
    assert hashlib.sha256((out / WEIGHTS).read_bytes()).hexdigest() == facts["sha256"]


def test_the_proxy_passes_events_as_they_come(proxied: Proxied, quickstart: Run) -> None:
    authorized = ["-H", f"Authorization: Bearer {proxied.lab.key}"]
    stream = proxied.curl(
        *authorized, "-N", "--max-time", "60", f"{proxied.url}/api/v1/runs/{quickstart.id}/events"
    )
    assert stream.returncode == 0, "a finished run's stream ends by itself"
    assert "event: checkpoint" in stream.stdout


def test_a_reader_signs_in_through_the_proxy(
    proxied: Proxied, quickstart: Run, browser: Browser
) -> None:
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.goto(f"{proxied.url}/run?run={quickstart.id}")
    page.get_by_label("API key").fill(str(proxied.lab.key))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name=quickstart.name)).to_be_visible()
    (cookie,) = [found for found in context.cookies() if "session" in found["name"]]
    assert cookie["name"].startswith("__Host-")
    assert cookie["secure"]
    link = page.get_by_role("link", name=WEIGHTS).first
    expect(link).to_have_attribute("href", re.compile(rf"^https://{DOMAIN}/api/v1/checkpoints/"))
    context.close()
