from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from pmae.client import (
    ApiError,
    PmaeClient,
)
from pmae.presets import PRESETS
from pmae.schema import (
    CheckpointPage,
    History,
    LogChunk,
    Metrics,
    Readiness,
    ReconstructionRequest,
    RunPage,
    UploadedImages,
)
from pmae.spec import DatasetSpec, ExperimentSpec, MaskingSpec
from tests.support.clients import client_over


def test_not_ready_is_an_answer() -> None:
    state = Readiness(ready=False, checks={"database": "ok", "broker": "no answer"})
    answer = httpx.Response(503, content=state.model_dump_json())
    with client_over(lambda _: answer) as client:
        assert client.ready() == state
    with client_over(lambda _: httpx.Response(500)) as client, pytest.raises(ApiError):
        client.ready()


EMPTY_ANSWERS: dict[str, str] = {
    "runs": RunPage(items=[]).model_dump_json(),
    "metrics": Metrics(run_id="a", series=[]).model_dump_json(),
    "log": LogChunk(text="", offset=0, next_offset=0, size=0).model_dump_json(),
    "history": History(items=[]).model_dump_json(),
    "checkpoints": CheckpointPage(items=[]).model_dump_json(),
    "components": "png",
    "presets": "[]",
    "datasets": "[]",
    "workers": "[]",
}


@pytest.mark.parametrize(
    ("call", "method", "target"),
    [
        (
            lambda c: c.runs(state="failed", tag="a b", limit=7, cursor="x="),
            "GET",
            "/runs?state=failed&tag=a+b&limit=7&cursor=x%3D",
        ),
        (lambda c: c.runs(method="mae", dataset="folder:x"), "GET",
         "/runs?method=mae&dataset=folder%3Ax"),
        (lambda c: c.metrics("a"), "GET", "/runs/a/metrics?max_points=400"),
        (
            lambda c: c.metrics("a", names=["loss", "lr"], max_points=9),
            "GET",
            "/runs/a/metrics?max_points=9&names=loss%2Clr",
        ),
        (lambda c: c.log("a", offset=3, limit=4), "GET", "/runs/a/log?offset=3&limit=4"),
        (lambda c: c.history("a"), "GET", "/runs/a/history"),
        (lambda c: list(c.checkpoints("a", kind="kept")), "GET",
         "/runs/a/checkpoints?kind=kept&limit=50"),
        (lambda c: c.component_png("a", 3), "GET", "/runs/a/components/3.png"),
        (lambda c: c.presets(), "GET", "/presets"),
        (lambda c: c.datasets(), "GET", "/datasets"),
        (lambda c: c.workers(), "GET", "/workers"),
    ],
)  # fmt: skip
def test_each_method_asks_its_route(
    call: Callable[[PmaeClient], object], method: str, target: str
) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        words = request.url.path.removeprefix("/api/v1/").split("/")
        kind = next(word for word in (*words[2:], words[0]) if word in EMPTY_ANSWERS)
        return httpx.Response(200, text=EMPTY_ANSWERS[kind])

    with client_over(answer) as client:
        call(client)
    assert [(r.method, r.url.raw_path.decode()) for r in asked] == [(method, "/api/v1" + target)]


def test_an_address_may_name_the_api_itself() -> None:
    for address in ("http://lab.example", "http://lab.example/", "http://lab.example/api/v1/"):
        with PmaeClient(address) as client:
            assert client.base_url == "http://lab.example"


def test_a_preset_is_no_spec() -> None:
    with PmaeClient() as client, pytest.raises(TypeError, match="preset='quickstart'"):
        client.submit("quickstart")  # type: ignore[arg-type]


def test_ids_cannot_leave_their_place_in_the_address() -> None:
    paths: list[str] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.raw_path.decode())
        return httpx.Response(404)

    with client_over(refuse) as client:
        for call in (client.run, client.cancel, client.checkpoint, client.preset):
            with pytest.raises(ApiError):
                call("../a?b#c/d")
    segment = "..%2Fa%3Fb%23c%2Fd"
    assert [path.count("/") for path in paths] == [4, 5, 4, 4]
    assert all(segment in path for path in paths)


def submitted(*arguments: Any, **keywords: Any) -> tuple[dict[str, Any], httpx.URL]:
    seen: list[httpx.Request] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(500)

    with client_over(refuse) as client, pytest.raises(ApiError):
        client.submit(*arguments, **keywords)
    return json.loads(seen[0].content), seen[0].url


def test_a_spec_is_sent_whole() -> None:
    spec = ExperimentSpec(dataset=DatasetSpec(name="digits"), epochs=3)
    body, url = submitted(spec, priority=2)
    assert ExperimentSpec.model_validate(body) == spec
    assert dict(url.params) == {"priority": "2"}


def test_over_a_preset_only_what_was_written_is_sent() -> None:
    spec = ExperimentSpec(dataset=DatasetSpec(name="digits"), masking=MaskingSpec(ratio=0.3))
    body, url = submitted(spec, preset="quickstart")
    assert body == {"dataset": {"name": "digits"}, "masking": {"ratio": 0.3}}
    assert url.params["preset"] == "quickstart"
    assert submitted(preset="quickstart")[0] == {}
    assert submitted({"epochs": 2}, preset="quickstart")[0] == {"epochs": 2}


def test_reconstructions_come_as_json_or_as_a_picture() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert ReconstructionRequest.model_validate_json(request.content).seed == 4
        assert request.url.params["format"] == "png"
        return httpx.Response(200, content=b"\x89PNG")

    with client_over(answer) as client:
        png = client.reconstruct_png("a-00000001", ReconstructionRequest(seed=4))
    assert png == b"\x89PNG"


def test_files_take_the_place_of_the_data_sets_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"first")

    def answer(request: httpx.Request) -> httpx.Response:
        sent = ReconstructionRequest.model_validate_json(request.content)
        assert sent.seed == 4
        assert isinstance(sent.images, UploadedImages)
        assert [base64.b64decode(text) for text in sent.images.uploaded] == [b"first", b"second"]
        return httpx.Response(200, content=b"\x89PNG")

    with client_over(answer) as client:
        request = ReconstructionRequest(seed=4)
        uploads: list[Path | bytes] = [tmp_path / "a.png", b"second"]
        assert client.reconstruct_png("a-00000001", request, uploads=uploads) == b"\x89PNG"
        with pytest.raises(FileNotFoundError):
            client.reconstruct("a-00000001", uploads=[str(tmp_path / "b.png")])
        with pytest.raises(ValueError, match="at most 32"):
            client.reconstruct("a-00000001", uploads=[b"x"] * 33)


def test_a_preset_is_read() -> None:
    preset = PRESETS["quickstart"]
    body = {
        "name": preset.name,
        "summary": preset.summary,
        "cost": preset.cost,
        "expect": preset.expect,
        "spec": preset.spec.model_dump(mode="json"),
    }
    asked: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path)
        return httpx.Response(200, json=body)

    with client_over(answer) as client:
        assert client.preset("quickstart").spec == preset.spec
        client.preset("paper?dataset=cifar10&ratio=0.2")
    assert asked[0].endswith(b"/presets/quickstart")
    assert asked[1].endswith(b"/presets/paper%3Fdataset%3Dcifar10%26ratio%3D0.2")


def test_download_urls_are_for_the_address_that_the_reader_has() -> None:
    with PmaeClient("http://inside:8000/") as client:
        path = "/api/v1/checkpoints/a-00000001/files/model.safetensors"
        url = client.download_url("a-00000001", "model.safetensors")
        assert url == "http://inside:8000" + path
        public = client.download_url(
            "a-00000001", "model.safetensors", base_url="https://lab.example/"
        )
        assert public == "https://lab.example" + path


def test_importing_the_client_needs_neither_torch_nor_a_web_framework() -> None:
    heavy = ["torch", "fastapi", "streamlit", "sqlalchemy", "celery", "pandas", "numpy"]
    code = f"import sys, pmae.client; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
