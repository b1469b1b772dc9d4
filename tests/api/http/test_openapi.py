"""The OpenAPI document says what the operations really do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.routing import APIRoute

from api.http.parameters import query_names
from api.main import ROUTERS, create_app
from api.settings import ApiSettings
from pmae.presets import PRESETS
from pmae.spec import ExperimentSpec


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(ApiSettings()).openapi()


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for item in document["paths"].values() for operation in item.values()]


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for operation in operations(document)]
    assert len(names) == len(set(names))
    for operation in operations(document):
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"]


def test_every_error_is_a_problem(document: dict[str, Any]) -> None:
    for operation in operations(document):
        for status, response in operation["responses"].items():
            if status == "default" or (status >= "400" and status != "503"):
                assert set(response["content"]) == {"application/problem+json"}
    assert "HTTPValidationError" not in json.dumps(document)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in schemas


def test_the_spec_is_documented_with_examples(document: dict[str, Any]) -> None:
    body = document["paths"]["/api/v1/runs"]["post"]["requestBody"]["content"]["application/json"]
    assert [each["$ref"].rpartition("/")[2] for each in body["schema"]["oneOf"]] == [
        "ExperimentSpec",
        "EvaluateSpec",
    ]
    quickstart = body["examples"]["quickstart"]["value"]
    assert ExperimentSpec.model_validate(quickstart) == PRESETS["quickstart"].spec


def test_every_operation_says_who_may_call_it(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert (schemes["key"]["type"], schemes["key"]["scheme"]) == ("http", "bearer")
    for operation in operations(document):
        if operation["operationId"] in ("livez", "readyz"):
            assert operation["security"] == []
            continue
        assert {"key": []} in operation["security"]
        assert "Needs the role " in operation["description"]
        assert "401" in operation["responses"]
        if "role viewer" not in operation["description"]:
            assert {"403", "429"} <= set(operation["responses"])
    download = document["paths"]["/api/v1/checkpoints/{checkpoint_id}/files/{file_name}"]["get"]
    assert {"link": []} in download["security"]
    assert "403" in download["responses"]


def test_a_route_takes_the_query_parameters_that_are_described(document: dict[str, Any]) -> None:
    described = {
        operation["operationId"]: {
            each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"
        }
        for operation in operations(document)
    }
    routes = [
        route for _, router in ROUTERS for route in router.routes if isinstance(route, APIRoute)
    ]
    taken = {route.name: set(query_names(route)) for route in routes if route.name in described}
    assert taken == described
    assert any(described.values())
