"""The deployment files name things that exist: commands, settings, services, build targets."""

from __future__ import annotations

import importlib
import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from pydantic import ValidationError

from api.access.needs import Permissions
from api.main import ROUTERS
from api.settings import ApiSettings
from dashboard.settings import DashboardSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
ENV_EXAMPLE = (ROOT / ".env.example").read_text()
FIELDS = {
    "migrate": set(ApiSettings.model_fields),
    "api": set(ApiSettings.model_fields),
    "worker": set(WorkerSettings.model_fields),
    "dashboard": set(DashboardSettings.model_fields),
}


def _stages() -> dict[str, str]:
    parts = re.split(r"^FROM \S+ AS (\w+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _commands() -> list[list[str]]:
    images = [
        json.loads(found) for found in re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    ]
    return images + [
        s["command"] for s in SERVICES.values() if s.get("command", [""])[0] == "python"
    ]


@pytest.mark.parametrize("command", _commands(), ids=lambda c: c[2])
def test_every_command_exists(command: list[str]) -> None:
    assert command[:2] == ["python", "-m"]
    assert find_spec(command[2]) is not None
    if command[2] in ("api", "worker"):
        assert callable(importlib.import_module(f"{command[2]}.__main__").main)
    if command[2] == "streamlit":
        assert (ROOT / "dashboard" / command[command.index("run") + 1]).is_file()


def test_every_setting_is_one_that_the_service_reads() -> None:
    for service, fields in FIELDS.items():
        for variable in SERVICES[service]["environment"]:
            assert variable.startswith("PMAE_")
            assert variable.removeprefix("PMAE_").lower() in fields, (service, variable)


def test_the_dashboard_may_reach_the_api_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = SERVICES["api"]["environment"]["PMAE_ALLOWED_HOSTS"]
    monkeypatch.setenv("PMAE_ALLOWED_HOSTS", hosts)
    address = urlsplit(SERVICES["dashboard"]["environment"]["PMAE_API_URL"])
    assert address.hostname in ApiSettings().allowed_hosts


def test_the_api_of_the_lab_asks_for_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = SERVICES["api"]["environment"] | COMPOSE["x-service-settings"]
    for name in ("PMAE_API_HOST", "PMAE_ALLOWED_HOSTS", "PMAE_DATABASE_URL", "PMAE_HOME"):
        monkeypatch.setenv(name, environment[name])
    assert ApiSettings().keys_required
    monkeypatch.setenv("PMAE_REQUIRE_KEYS", "false")
    with pytest.raises(ValidationError, match="is refused"):
        ApiSettings()


def test_the_api_alone_gets_what_signs_links(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [name for name, each in SERVICES.items() if "PMAE_SECRET_KEY" in str(each)] == ["api"]
    passed = SERVICES["api"]["environment"]["PMAE_SECRET_KEY"]
    assert passed == "${PMAE_SECRET_KEY:-}", "it is no error to leave it out of .env"
    (example,) = re.findall(r"^PMAE_SECRET_KEY=(.*)$", ENV_EXAMPLE, re.MULTILINE)
    assert example == "", "no service has one that everybody can read"
    monkeypatch.setenv("PMAE_SECRET_KEY", example)
    assert ApiSettings().secret_key is None
    home = SERVICES["api"]["environment"]["PMAE_HOME"]
    assert f"state:{home}" in SERVICES["api"]["volumes"], "the one that is made is kept"
    monkeypatch.setenv("PMAE_SECRET_KEY", "s" * 32)
    secret = ApiSettings().secret_key
    assert secret is not None
    assert secret.get_secret_value() == "s" * 32


def test_no_key_of_one_visitor_is_given_to_the_dashboard() -> None:
    assert "PMAE_API_KEY" not in str(SERVICES)
    assert not any("key" in name for name in DashboardSettings.model_fields)


def test_health_checks_ask_what_strangers_may() -> None:
    permissions = Permissions(ROUTERS)
    test = SERVICES["api"]["healthcheck"]["test"][-1]
    (address,) = re.findall(r"'(http://[^']+)'", test)
    assert urlsplit(address).path in permissions.open_paths


def test_everything_that_is_referred_to_is_there() -> None:
    stages = _stages()
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or source.startswith("$"), volume
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
            assert service["build"]["target"] in stages
    gpu = yaml.safe_load((ROOT / "docker" / "compose.gpu.yml").read_text())
    assert set(gpu["services"]) <= set(SERVICES)


def test_every_variable_is_explained() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    explained = set(re.findall(r"^([A-Z_]+)=", ENV_EXAMPLE, re.MULTILINE))
    assert set(re.findall(r"\$\{([A-Z_]+)", text)) == explained


def test_copied_files_exist_and_images_do_not_run_as_root() -> None:
    for sources in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
    for name, stage in _stages().items():
        assert name == "base" or "USER pmae" in stage


def test_ports_are_bound_to_the_loopback_and_workers_may_drain() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert SERVICES["worker"]["stop_grace_period"] == "120s"
