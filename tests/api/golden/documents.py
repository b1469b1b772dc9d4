"""Golden documents: what clients and stored specs rely on, without the wording for people.

``openapi.json`` is the document of the REST API; the others are the JSON schemas of specs. Where a
change of them is meant (a new route, a new field), write them anew, and read the difference in
version control: what a client or a stored spec uses may be added to, not changed or taken away::

    python -m tests.api.golden.documents
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from api.main import create_app
from api.settings import ApiSettings
from pmae.spec import EvaluateSpec, ExperimentSpec

FOLDER = Path(__file__).parent
_TEXTS = ("description", "summary", "title")
_EXAMPLES = ("example", "examples")


def documents() -> dict[str, Any]:
    """Every golden document by the name of its file, as the code has it now."""
    openapi = create_app(ApiSettings()).openapi()
    del openapi["info"]["version"]
    found = {
        "openapi": openapi,
        "experiment_spec": ExperimentSpec.model_json_schema(),
        "evaluate_spec": EvaluateSpec.model_json_schema(),
    }
    return {name: without_wording(document) for name, document in found.items()}


def without_wording(value: Any) -> Any:
    """A document without texts and examples; a property that has such a name stays."""
    if isinstance(value, dict):
        return {
            key: without_wording(part)
            for key, part in value.items()
            if not (key in _EXAMPLES or (key in _TEXTS and isinstance(part, str)))
        }
    if isinstance(value, list):
        return [without_wording(part) for part in value]
    return value


def write() -> None:
    """Write every golden document."""
    for name, document in documents().items():
        text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
        (FOLDER / f"{name}.json").write_text(f"{text}\n")


if __name__ == "__main__":
    write()
