"""Descriptions of operations' responses in the OpenAPI document."""

from __future__ import annotations

import http
from typing import Any

API_PREFIX = "/api/v1"
PROBLEM_JSON = "application/problem+json"
SCHEMAS = "#/components/schemas/"
PROBLEM_CONTENT = {PROBLEM_JSON: {"schema": {"$ref": f"{SCHEMAS}Problem"}}}
Responses = dict[int | str, dict[str, Any]]
"""Responses of an operation, by status."""


def problems(**reasons: str) -> Responses:
    """Describe the problem responses of an operation.

    Args:
        reasons: description of each, by the name of its status: ``not_found="no such run"``.
    """
    return {
        http.HTTPStatus[name.upper()].value: {"description": reason, "content": PROBLEM_CONTENT}
        for name, reason in reasons.items()
    }


def binary(media_type: str, description: str) -> Responses:
    """Describe a response that is a file."""
    schema = {"type": "string", "format": "binary"}
    return {200: {"description": description, "content": {media_type: {"schema": schema}}}}
