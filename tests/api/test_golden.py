"""What clients rely on stays: routes, parameters, fields and types, as they were released."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.golden.documents import FOLDER, documents, without_wording


@pytest.fixture(scope="module")
def now() -> dict[str, Any]:
    return documents()


@pytest.mark.parametrize("name", ["openapi", "experiment_spec", "evaluate_spec"])
def test_the_document_is_the_golden_one(now: dict[str, Any], name: str) -> None:
    """`python -m tests.api.golden.documents` writes them anew; see there when."""
    assert now[name] == json.loads((FOLDER / f"{name}.json").read_text())


def test_wording_is_no_part_of_it() -> None:
    document = {
        "description": "a text",
        "properties": {"title": {"title": "Title", "type": "string", "example": "x"}},
        "parameters": [{"name": "limit", "description": "how many"}],
    }
    assert without_wording(document) == {
        "properties": {"title": {"type": "string"}},
        "parameters": [{"name": "limit"}],
    }
