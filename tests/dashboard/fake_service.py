"""A service with a few runs and no training: the API's answers from memory, over real HTTP.

Its runs come from :mod:`tests.dashboard.fake_runs`, its pictures from
:mod:`tests.dashboard.fake_pictures`, so that the pages look as they do on a real run. One run is
under way; :meth:`FakeService.advance` moves it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel

from api.catalogue.service import list_methods
from pmae.presets import FAMILIES, PRESETS
from pmae.schema import (
    Checkpoint,
    CheckpointPage,
    Evaluation,
    Filmstrip,
    Progress,
    Readiness,
    ReconstructionRequest,
    Run,
    RunPage,
    RunState,
    RunSummary,
    WorkerView,
)
from pmae.schema.access import Identity
from pmae.schema.evaluations import EvaluationRun, EvaluationRunPage
from pmae.schema.runs import RunChange, ServiceEvent
from pmae.spec import (
    EvaluateSpec,
    ExperimentSpec,
    resolve_evaluate,
)
from tests.dashboard.fake_pictures import FakePictures, Refusal
from tests.dashboard.fake_runs import (
    DATASETS,
    EPOCHS,
    STEPS_PER_EPOCH,
    checkpoints_of,
    epoch_of,
    history_of,
    log_of,
    make_run,
    metrics_of,
    preset_view,
    probe_curve,
)

HOSTILE_NAME = '<img src=x onerror="document.title=1"> **sweep** & co'


class FakeService:
    """What the runs are, and what is answered to which request."""

    def __init__(self) -> None:
        now = datetime.now(UTC)
        self._pictures = FakePictures()
        self.requests: list[str] = []
        self.reconstructions: list[tuple[str, bytes]] = []
        self.ready = True
        self.database_away = False
        self.stopped = False
        self.streams = 0
        self._happened = threading.Condition()
        self._events: list[bytes] = []
        self.runs: dict[str, Run] = {}
        for number, (name, state, method, epoch, minutes) in enumerate(
            [
                ("quickstart", "succeeded", "pmae", EPOCHS, 4320),
                ("mae baseline", "succeeded", "mae", EPOCHS, 1800),
                ("high learning rate", "failed", "pmae", 7, 600),
                (HOSTILE_NAME, "cancelled", "pmae", 21, 95),
                ("ratio 0.3", "running", "pmae", 23, 3),
                ("mae, random ratio", "queued", "mae", 0, 1),
            ],
            start=1,
        ):
            run = make_run(number, name, state, method, epoch, now - timedelta(minutes=minutes))  # type: ignore[arg-type]
            self.runs[run.id] = run

    def of_state(self, state: RunState) -> Run:
        """The first run that is in this state."""
        return next(run for run in self.runs.values() if run.state == state)

    def advance(self, run_id: str, epochs: int) -> None:
        """Train on; at the last epoch the run succeeds."""
        run = self.runs[run_id]
        epoch = min(EPOCHS, epoch_of(run) + epochs)
        state: RunState = "succeeded" if epoch == EPOCHS else run.state
        self.runs[run_id] = make_run(run.number, run.name, state, run.method, epoch, run.created_at)
        self.tell(run_id)

    def tell(self, run_id: str) -> None:
        """Send on the stream of all runs that something happened to a run."""
        run = self.runs[run_id]
        event = ServiceEvent(
            id=time.time_ns() // 1000,  # later than those of a service that was here before
            at=datetime.now(UTC),
            type="stage",
            actor="lab-1",
            message="it goes on",
            run_id=run_id,
            run=RunSummary.model_validate(run.model_dump(include=set(RunSummary.model_fields))),
        )
        content = f"id: {event.id}\nevent: stage\ndata: {event.model_dump_json()}\n\n"
        with self._happened:
            self._events.append(content.encode())
            self._happened.notify_all()

    def stop(self) -> None:
        """End the streams."""
        with self._happened:
            self.stopped = True
            self._happened.notify_all()

    def follow(self) -> Iterator[bytes]:
        """The stream of all runs, from now on."""
        with self._happened:
            self.streams += 1
            sent = len(self._events)
        yield f"retry: 2000\nid: {time.time_ns() // 1000}\n\n".encode()
        while True:
            with self._happened:
                while not self.stopped and len(self._events) == sent:
                    self._happened.wait()
                if self.stopped:
                    return
                new, sent = self._events[sent:], len(self._events)
            yield b"".join(new)

    def answer(self, method: str, address: str, body: bytes) -> BaseModel | bytes | list[Any]:
        """What the API would say: a model, a list of them, or a PNG."""
        url = urlsplit(address)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        parts = url.path.removeprefix("/api/v1/").split("/")
        self.requests.append(f"{method} {address}")
        if self.database_away and parts != ["identity"]:
            raise Refusal(503, "database_unavailable", "the database does not answer")
        match (method, *parts):
            case "GET", "identity":
                return Identity(name=None, role="admin")
            case "GET", "runs":
                return self._page(query)
            case "GET", "runs", run_id:
                return self._run(run_id)
            case "PATCH", "runs", run_id:
                change = RunChange.model_validate_json(body)
                self.runs[run_id] = self._run(run_id).model_copy(update=change.values)
                self.tell(run_id)
                return self.runs[run_id]
            case "POST", "runs", run_id, "cancel":
                run = self._run(run_id)
                self.runs[run_id] = run.model_copy(update={"cancel_requested": True})
                self.tell(run_id)
                return self.runs[run_id]
            case "GET", "runs", run_id, "metrics":
                return metrics_of(self._run(run_id), query["names"].split(","))
            case "GET", "runs", run_id, "log":
                return log_of(self._run(run_id), int(query["offset"]), int(query["limit"]))
            case "GET", "runs", run_id, "history":
                return history_of(self._run(run_id))
            case "GET", "runs", run_id, "checkpoints":
                return self._checkpoints(self._run(run_id), query)
            case "GET", "runs", run_id, "filmstrip":
                return self._film(self._run(run_id), int(query["image"]))
            case "GET", "runs", run_id, "evaluations":
                found = self._evaluating(self._run(run_id))[: int(query["limit"])]
                return EvaluationRunPage(items=found)
            case "POST", "checkpoints", checkpoint_id, "evaluations":
                return self._evaluate(self._checkpoint(checkpoint_id), body)
            case "GET", "runs", run_id, "components":
                return self._pictures.spectrum(self._run(run_id))
            case "GET", "runs", run_id, "components", name:
                self._run(run_id)
                return self._pictures.component(int(name.removesuffix(".png")))
            case "GET", "checkpoints", checkpoint_id:
                return self._checkpoint(checkpoint_id)
            case "POST", "checkpoints", checkpoint_id, "reconstructions":
                self.reconstructions.append((checkpoint_id, body))
                request = ReconstructionRequest.model_validate_json(body)
                return self._pictures.reconstruct(self._checkpoint(checkpoint_id), request)
            case "GET", "presets":
                return [preset_view(name) for name in [*PRESETS, *FAMILIES]]
            case "GET", "methods":
                return list_methods()
            case "GET", "datasets":
                return DATASETS
            case "GET", "workers":
                return self._workers()
            case "GET", "readyz":
                broker = "ok" if self.ready else "no answer from the broker"
                checks = {"database": "ok", "broker": broker, "storage": "ok"}
                return Readiness(ready=self.ready, checks=checks)
        raise Refusal(404, "not_found", f"there is no path {url.path}")

    def _run(self, run_id: str) -> Run:
        if run_id not in self.runs:
            raise Refusal(404, "run_not_found", f"there is no run {run_id}")
        return self.runs[run_id]

    def _page(self, query: dict[str, str]) -> RunPage:
        def wanted(run: Run) -> bool:
            tag = query.get("tag")
            return all(
                query.get(name, getattr(run, name)) == getattr(run, name)
                for name in ("state", "kind", "method", "dataset")
            ) and (tag is None or tag in run.tags)

        runs = [run for run in reversed(self.runs.values()) if wanted(run)]
        start, limit = int(query.get("cursor", 0)), int(query["limit"])
        items = [
            RunSummary.model_validate(run.model_dump(include=set(RunSummary.model_fields)))
            for run in runs[start : start + limit]
        ]
        more = start + limit < len(runs)
        return RunPage(items=items, next_cursor=str(start + limit) if more else None)

    def _evaluate(self, checkpoint: Checkpoint, body: bytes) -> Run:
        """Queue an evaluation; :meth:`measure` ends it."""
        request = json.loads(body)
        parent = self._run(checkpoint.run_id)
        assert isinstance(parent.spec, ExperimentSpec)
        spec = EvaluateSpec.model_validate({**request, "checkpoint": checkpoint.id})
        number = len(self.runs) + 1
        run = parent.model_copy(
            update={
                "id": f"{number:016x}",
                "number": number,
                "kind": "evaluate",
                "parent_id": parent.id,
                "name": f"{spec.evaluations[0].protocol} of {parent.name}",
                "state": "queued",
                "reason": "waits to be picked up",
                "spec": resolve_evaluate(spec, parent.spec),
                "evaluations": [],
                "last_metrics": {},
                "top1": None,
                "started_at": None,
                "finished_at": None,
                "created_at": datetime.now(UTC),
                "basis_digest": None,
                "progress": Progress(),
            }
        )
        self.runs[run.id] = run
        self.tell(run.id)
        return run

    def measure(self, run_id: str, top1: float) -> None:
        """End an evaluation with this accuracy, after every block."""
        run = self.runs[run_id]
        assert isinstance(run.spec, EvaluateSpec)
        protocol = run.spec.evaluations[0].protocol
        now = datetime.now(UTC)
        found = Evaluation(
            key=f"{protocol}/encoder",
            protocol=protocol,
            features="encoder",
            step=EPOCHS * STEPS_PER_EPOCH,
            epoch=EPOCHS,
            split="test",
            top1=top1,
            details={
                "by_layer": [
                    {"layer": layer, "top1": top1 - 0.03 * (4 - layer), "val_top1": top1}
                    for layer in (1, 2, 3, 4)
                ]
            }
            | ({} if protocol == "knn" else probe_curve(top1)),
        )
        ended: dict[str, Any] = {"state": "succeeded", "reason": None, "evaluations": [found]}
        ended |= {"started_at": now, "finished_at": now + timedelta(seconds=9)}
        self.runs[run_id] = run.model_copy(update=ended)
        self.tell(run_id)

    def _evaluating(self, parent: Run) -> list[EvaluationRun]:
        return [
            EvaluationRun(
                **run.model_dump(include=set(RunSummary.model_fields)),
                checkpoint=run.spec.checkpoint,
                evaluations=run.evaluations,
            )
            for run in reversed(self.runs.values())
            if run.parent_id == parent.id and isinstance(run.spec, EvaluateSpec)
        ]

    def _workers(self) -> list[WorkerView]:
        busy = [run.id for run in self.runs.values() if run.state == "running"]
        now = datetime.now(UTC)
        return [
            WorkerView(
                name="lab-1",
                host="lab",
                started_at=now - timedelta(hours=3),
                last_seen_at=now,
                kinds=["pretrain"],
                devices=1,
                draining=False,
                run_id=busy[0] if busy else None,
            )
        ]

    def _checkpoints(self, run: Run, query: Mapping[str, str]) -> CheckpointPage:
        kinds = ("kept", "latest") if "kind" not in query else (query["kind"],)
        found = [checkpoint for checkpoint in checkpoints_of(run) if checkpoint.kind in kinds]
        return CheckpointPage(items=found[: int(query["limit"])])

    def _checkpoint(self, checkpoint_id: str) -> Checkpoint:
        for run in self.runs.values():
            for checkpoint in checkpoints_of(run):
                if checkpoint.id == checkpoint_id:
                    return checkpoint
        raise Refusal(404, "checkpoint_replaced", f"there is no checkpoint {checkpoint_id}")

    def _film(self, run: Run, image: int) -> Filmstrip:
        checkpoints = checkpoints_of(run)
        if not checkpoints:
            raise Refusal(404, "filmstrip_not_ready", "nothing was filmed yet")
        return self._pictures.film(checkpoints[0], image)


class _Handler(BaseHTTPRequestHandler):
    """One request a connection, so that nothing of a stopped server answers on."""

    service: FakeService

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/api/v1/events":
            self._stream()
        else:
            self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            status, answer = 200, self.service.answer(self.command, self.path, body)
        except Refusal as refusal:
            status, answer = refusal.problem.status, refusal.problem
        if isinstance(answer, Readiness) and not answer.ready:
            status = 503
        kind = "image/png" if isinstance(answer, bytes) else "application/json"
        data = answer if isinstance(answer, bytes) else _json(answer)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for content in self.service.follow():
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def _json(answer: BaseModel | list[Any]) -> bytes:
    if isinstance(answer, BaseModel):
        return answer.model_dump_json().encode()
    return json.dumps([item.model_dump(mode="json") for item in answer]).encode()


@contextmanager
def serving(service: FakeService, port: int = 0) -> Iterator[str]:
    """Serve on the loopback; yields the address."""
    handler = type("Handler", (_Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        service.stop()
        server.shutdown()
        thread.join()
        server.server_close()
