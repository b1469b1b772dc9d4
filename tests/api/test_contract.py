"""Every operation of the OpenAPI document, asked with what fits it and with what does not.

Requests are generated from the document; no answer may be a server error, and each must be one that
the document describes: its status, its media type, its headers and its schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.main import create_app
from api.settings import ApiSettings
from tests.api.live import LiveApi, live_api
from tests.conftest import running_broker

_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
_DOCUMENT = schemathesis.openapi.from_dict(create_app(ApiSettings()).openapi())
_ENDLESS = "GET /api/v1/events"
"""Its answer does not end; tests/api/events/test_all_runs.py asks it."""
_OPERATIONS = [
    found.ok()
    for found in _DOCUMENT.get_all_operations()
    if isinstance(found, Ok) and found.ok().label != _ENDLESS
]
Case = schemathesis.Case[Any]
Operation = schemathesis.APIOperation[Any, Any, Any, Any]
_CHECKPOINT_FILE = "model.safetensors"
generated = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
each_operation = pytest.mark.parametrize("operation", _OPERATIONS, ids=lambda found: found.label)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveApi]:
    """A server with a broker, and a run in most states, so that requests find something."""
    home = tmp_path_factory.mktemp("contract") / "home"
    with running_broker() as broker_url:
        configured = ApiSettings(
            home=home,
            broker_url=broker_url,
            stream_poll_seconds=0.02,
            stream_heartbeat_seconds=0.1,
        )
        with live_api(configured) as api:
            run = api.add_run(state="succeeded")
            api.add_checkpoint(run, {_CHECKPOINT_FILE: b"weights"})
            api.add_metrics(run.number, "loss", [1.0, 0.5])
            api.add_run(state="failed", reason="out of memory")
            api.add_run()
            yield api


@pytest.fixture(scope="module")
def existing(served: LiveApi) -> dict[str, str]:
    """Path parameters that name what is there."""
    run_id = served.client.get("/runs", params={"state": "succeeded"}).json()["items"][0]["id"]
    checkpoints = served.client.get(f"/runs/{run_id}/checkpoints").json()["items"]
    return {
        "run_id": run_id,
        "checkpoint_id": checkpoints[0]["id"],
        "file_name": _CHECKPOINT_FILE,
        "name": "quickstart",
        "index": "0",
    }


@each_operation
def test_what_fits_is_answered_as_described(
    operation: Operation,
    served: LiveApi,
    existing: dict[str, str],
) -> None:
    cases = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)

    @generated
    @given(case=cases, finds=st.booleans())
    def ask(case: Case, finds: bool) -> None:
        if finds:
            for name in case.path_parameters or {}:
                case.path_parameters[name] = existing.get(name, case.path_parameters[name])
        case.call_and_validate(base_url=served.url, checks=_CHECKS, timeout=30)

    ask()


@each_operation
def test_what_does_not_fit_is_refused_as_described(operation: Operation, served: LiveApi) -> None:
    cases = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @generated
    @given(case=cases)
    def ask(case: Case) -> None:
        case.call_and_validate(base_url=served.url, checks=_CHECKS, timeout=30)

    try:
        ask()
    except Unsatisfiable:
        assert _takes_anything(operation), "nothing wrong could be made up for it"


def _takes_anything(operation: Operation) -> bool:
    """Whether it takes nothing, or any text in its path: nobody can ask it wrongly."""
    described = _DOCUMENT.raw_schema["paths"][operation.path][operation.method]
    parameters = described.get("parameters", [])
    return "requestBody" not in described and all(
        parameter["in"] == "path"
        and set(parameter["schema"]) <= {"type", "title"}
        and parameter["schema"]["type"] == "string"
        for parameter in parameters
    )
