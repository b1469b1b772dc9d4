"""The OpenAPI document, with the errors and the roles of every operation."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.auth.requirements import Needs, Permissions
from api.http.responses import PROBLEM_CONTENT, SCHEMAS, problems
from pmae.schema import Problem, ReconstructionRequest

_SECURITY_SCHEMES = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "pmae_...",
        "description": "An API key (`pmae keys create`), or the token of a session begun with one "
        "(`POST /sessions`). Not needed where keys are off.",
    },
    "link": {
        "type": "apiKey",
        "in": "query",
        "name": "signature",
        "description": "Signature of a download link: gives access to one file until it expires.",
    },
}
_OF_NO_ROUTE = (Problem, ReconstructionRequest)
"""Models that FastAPI does not see: of errors, and of bodies that routes read themselves."""
_FASTAPIS_OWN = ("HTTPValidationError", "ValidationError")


class Document:
    """The OpenAPI document of an application with all its routes.

    Args:
        app: the application.
        permissions: requirements of its routes.
    """

    def __init__(self, app: FastAPI, permissions: Permissions) -> None:
        self._app = app
        self._permissions = permissions

    def __call__(self) -> dict[str, Any]:
        """Return the document; replaces ``app.openapi``."""
        return self.content

    @cached_property
    def content(self) -> dict[str, Any]:
        """The document, with every error described as it is sent."""
        app = self._app
        content = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            separate_input_output_schemas=app.separate_input_output_schemas,
        )
        schemas = content["components"]["schemas"]
        for name in _FASTAPIS_OWN:
            schemas.pop(name, None)
        for model in _OF_NO_ROUTE:
            schema = model.model_json_schema(ref_template=SCHEMAS + "{model}")
            for name, part in (schema.pop("$defs") | {model.__name__: schema}).items():
                schemas.setdefault(name, part)
        content["components"]["securitySchemes"] = _SECURITY_SCHEMES
        for path_item in content["paths"].values():
            for operation in path_item.values():
                _describe_errors(operation)
                _describe_access(operation, self._permissions.of(operation["operationId"]))
        return content

    @cached_property
    def as_json(self) -> bytes:
        """Serialize the document."""
        return json.dumps(self.content, ensure_ascii=False).encode()

    def methods(self, path: str) -> list[str]:
        """List the methods of a path."""
        return [
            method
            for operation in self._permissions.operations
            if operation.pattern.fullmatch(path)
            for method in sorted(operation.methods)
        ]


def _describe_access(operation: dict[str, Any], needs: Needs) -> None:
    """Describe the role that an operation needs, and its responses to other callers."""
    if needs.role is None:
        operation["security"] = []
        return
    by_link = any(p["name"] == "signature" for p in operation.get("parameters", ()))
    operation["security"] = [{"key": []}, *([{"link": []}] if by_link else [])]
    operation["description"] += f"\n\nNeeds the role {needs.role}" + (
        ", and to own the run or be an admin." if needs.owns_run else "."
    )
    described = problems(unauthorized="No key was sent, or it is not valid.")
    if needs.signs_in:
        described |= problems(too_many_requests="Too many writes; see `Retry-After`.")
    elif needs.writes:
        why = f"The key's role is below {needs.role}" + (
            ", or the run belongs to somebody else." if needs.owns_run else "."
        )
        described |= problems(
            forbidden=why, too_many_requests="Too many writes; see `Retry-After`."
        )
    elif by_link:
        described |= problems(forbidden="The link has expired, or its signature is invalid.")
    answers = {str(status): answer for status, answer in described.items()}
    operation["responses"] = answers | operation["responses"]


def _describe_errors(operation: dict[str, Any]) -> None:
    responses: dict[str, Any] = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        responses["422"] = {"description": "A parameter is invalid.", "content": PROBLEM_CONTENT}
    responses["default"] = {"description": "Any other failure.", "content": PROBLEM_CONTENT}
    for media_type in operation.get("requestBody", {}).get("content", {}).values():
        schema = media_type["schema"]
        for own in ("$ref", "oneOf"):  # from the route, which FastAPI merges with that of a dict
            if own in schema:
                media_type["schema"] = {own: schema[own]}
