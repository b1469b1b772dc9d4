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
        "description": "An API key (`pmae keys create`), or the token of a session that was signed "
        "in with one (`POST /sessions`). Not needed where keys are off.",
    },
    "link": {
        "type": "apiKey",
        "in": "query",
        "name": "signature",
        "description": "Of a download link: fetches that one file while the link holds.",
    },
}
_OF_NO_ROUTE = (Problem, ReconstructionRequest)
"""What FastAPI does not see: every error, and the body that its route reads itself."""
_FASTAPIS_OWN = ("HTTPValidationError", "ValidationError")


class Document:
    """The OpenAPI document of an application whose routes are all there.

    Args:
        app: the application.
        permissions: what each of its routes needs.
    """

    def __init__(self, app: FastAPI, permissions: Permissions) -> None:
        self._app = app
        self._permissions = permissions

    def __call__(self) -> dict[str, Any]:
        """The document; takes the place of ``app.openapi``."""
        return self.content

    @cached_property
    def content(self) -> dict[str, Any]:
        """The document, with every error described as it is really answered."""
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
        """The document as it is sent."""
        return json.dumps(self.content, ensure_ascii=False).encode()

    def methods(self, path: str) -> list[str]:
        """The methods that an address answers to."""
        return [
            method
            for operation in self._permissions.operations
            if operation.pattern.fullmatch(path)
            for method in sorted(operation.methods)
        ]


def _describe_access(operation: dict[str, Any], needs: Needs) -> None:
    """Who may call it, and what is answered to others."""
    if needs.role is None:
        operation["security"] = []
        return
    by_link = any(p["name"] == "signature" for p in operation.get("parameters", ()))
    operation["security"] = [{"key": []}, *([{"link": []}] if by_link else [])]
    operation["description"] += f"\n\nNeeds the role {needs.role}" + (
        ", and to own the run or be an admin." if needs.owns_run else "."
    )
    told = problems(unauthorized="There is no key, or none that holds.")
    if needs.signs_in:
        told |= problems(too_many_requests="Too many writes; see `Retry-After`.")
    elif needs.writes:
        why = f"The key's role is smaller than {needs.role}" + (
            ", or the run is somebody else's." if needs.owns_run else "."
        )
        told |= problems(forbidden=why, too_many_requests="Too many writes; see `Retry-After`.")
    elif by_link:
        told |= problems(forbidden="The link has expired, or its signature does not hold.")
    answers = {str(status): answer for status, answer in told.items()}
    operation["responses"] = answers | operation["responses"]


def _describe_errors(operation: dict[str, Any]) -> None:
    responses: dict[str, Any] = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        responses["422"] = {"description": "A parameter is not valid.", "content": PROBLEM_CONTENT}
    responses["default"] = {"description": "Any other failure.", "content": PROBLEM_CONTENT}
    for media_type in operation.get("requestBody", {}).get("content", {}).values():
        schema = media_type["schema"]
        for own in ("$ref", "oneOf"):  # given by the route, and merged with FastAPI's of a dict
            if own in schema:
                media_type["schema"] = {own: schema[own]}
