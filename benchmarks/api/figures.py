"""Measure the API on SQLite and on PostgreSQL beside MLflow, and its downloads beside nginx.

Every server holds the same 10,000 runs, 100 of them with a series of 100,000 points. All servers
run at once and are asked in turns, so that other load on the machine affects them equally.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.api import mlflow
from benchmarks.api.contents import (
    CHECKPOINT_BYTES,
    METRIC,
    NUM_RUNS,
    NUM_STEPS,
    add_checkpoint,
    fill,
)
from benchmarks.api.load import Address, Client, Load, closed_loop
from benchmarks.api.nginx import running_nginx
from benchmarks.api.servers import DATABASES, Database, running_api, running_database
from benchmarks.figure import Figure

ROUNDS = 5
NUM_CLIENTS = 20
NUM_COMPARED = 20
"""Number of runs whose series one request reads."""
NUM_POINTS = 320
AHEAD = 5
"""The goal against MLflow."""

Server = Database | str
Work = Callable[[Client], object]


@dataclass(frozen=True)
class Question:
    """A request to compare, in each server's own API.

    Attributes:
        name: of the figure.
        works: by server, a function with which a client sends the request once.
        clients: number of concurrent clients.
        requests: of each client in a round.
    """

    name: str
    works: Mapping[Server, Work]
    clients: int = 1
    requests: int = 20


@dataclass
class Answers:
    """Durations of the answers to a question, by server."""

    loads: dict[Server, list[Load]] = field(default_factory=dict)

    def milliseconds(self, server: Server, percentile: float) -> float:
        """A percentile over all rounds."""
        return Load.together(self.loads[server]).milliseconds(percentile)

    def per_second(self, server: Server) -> float:
        """Requests a second, all clients together."""
        return Load.together(self.loads[server]).per_second


def figures() -> list[Figure]:
    """Measure everything."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pmae-bench-")))
        addresses: dict[Server, Address] = {}
        run_ids: dict[Server, list[str]] = {}
        checkpoints: dict[Database, Path] = {}
        for kind in DATABASES:
            home = folder / kind
            home.mkdir()
            url = stack.enter_context(running_database(kind, home))
            run_ids[kind] = fill(url)
            runs_dir = home / "artifacts" / "runs"
            checkpoints[kind] = add_checkpoint(url, runs_dir, run_ids[kind][0])
            addresses[kind] = stack.enter_context(running_api(kind, url, home)).address
        peer = stack.enter_context(mlflow.running_mlflow(folder))
        addresses[peer.name], run_ids[peer.name] = peer.address, peer.run_ids
        found = [
            *_submissions(addresses, peer.name),
            *_lists(addresses, peer.name),
            *_series(addresses, run_ids, peer.name),
        ]
        file = checkpoints["SQLite"]
        nginx = stack.enter_context(running_nginx(file.parent, folder))
        return found + _downloads(addresses["SQLite"], run_ids["SQLite"][0], nginx, file.name)


def _ask(addresses: Mapping[Server, Address], question: Question) -> Answers:
    """Ask the servers in turns, after a shorter round of warm-up."""
    answers = Answers()
    for turn in range(ROUNDS + 1):
        requests = question.requests if turn else max(question.requests // 5, 1)
        for server, work in question.works.items():
            load = closed_loop(addresses[server], work, clients=question.clients, requests=requests)
            if turn:
                answers.loads.setdefault(server, []).append(load)
    return answers


def _submissions(addresses: Mapping[Server, Address], peer: str) -> list[Figure]:
    def submit(client: Client) -> object:
        return client.post("/runs", {"dataset": {"name": "digits"}})

    works: dict[Server, Work] = dict.fromkeys(DATABASES, submit)
    question = Question(
        f"submit a run, {NUM_CLIENTS} clients", works | {peer: mlflow.create_run}, NUM_CLIENTS
    )
    answers = _ask(addresses, question)
    found = _durations(question.name, answers, peer, (50, 99), limits={99: 50})
    for kind in DATABASES:
        ours, theirs = answers.per_second(kind), answers.per_second(peer)
        name = f"{question.name}, {kind}"
        found.append(_ahead(name, "runs/s", ours, peer, theirs, ours / theirs))
    return found


def _lists(addresses: Mapping[Server, Address], peer: str) -> list[Figure]:
    def search(client: Client) -> object:
        body = {"experiment_ids": ["0"], "max_results": 100}
        return client.post(f"{mlflow.API}/runs/search", body)

    works: dict[Server, Work] = {kind: lambda c: c.get("/runs?limit=100") for kind in DATABASES}
    question = Question(f"list 100 of {NUM_RUNS:,} runs", works | {peer: search})
    answers = _ask(addresses, question)
    return _durations(question.name, answers, peer, (50, 95), limits={95: 100})


def _series(
    addresses: Mapping[Server, Address], run_ids: Mapping[Server, list[str]], peer: str
) -> list[Figure]:
    def downsampled(kind: Server, number: int) -> Work:
        runs = ",".join(run_ids[kind][:number])
        path = f"/metrics?runs={runs}&names={METRIC}&max_points={NUM_POINTS}"
        return lambda client: client.get(path)

    def sampled(number: int) -> Work:
        runs = "".join(f"run_ids={run}&" for run in run_ids[peer][:number])
        path = f"{mlflow.SAMPLES}?{runs}metric_key={METRIC}&max_results={NUM_POINTS}"
        return lambda client: client.get(path)

    def whole(kind: Server) -> Work:
        path = f"/runs/{run_ids[kind][0]}/metrics?names={METRIC}&max_points={NUM_STEPS}"
        return lambda client: client.get(path)

    history = f"{mlflow.API}/metrics/get-history?run_id={run_ids[peer][0]}&metric_key={METRIC}"
    questions = [
        Question(
            f"{NUM_POINTS} of the {NUM_STEPS:,} points of {number} run{'s' if number > 1 else ''}",
            {kind: downsampled(kind, number) for kind in DATABASES} | {peer: sampled(number)},
            requests=requests,
        )
        for number, requests in ((1, 5), (NUM_COMPARED, 1))
    ]
    questions.append(
        Question(
            f"all {NUM_STEPS:,} points of a run",
            {kind: whole(kind) for kind in DATABASES} | {peer: lambda client: client.get(history)},
            requests=1,
        )
    )
    return [
        figure
        for question in questions
        for figure in _durations(question.name, _ask(addresses, question), peer, (50,))
    ]


def _downloads(ours: Address, run_id: str, nginx: Address, file: str) -> list[Figure]:
    question = Question(
        f"download a checkpoint of {CHECKPOINT_BYTES // 2**20} MiB",
        {
            "SQLite": lambda c: c.count_bytes(
                f"/checkpoints/{run_id}-{NUM_STEPS:08d}/files/{file}"
            ),
            "nginx": lambda client: client.count_bytes(f"/{file}"),
        },
        requests=2,
    )
    answers = _ask({"SQLite": ours, "nginx": nginx}, question)
    speed, theirs = (
        CHECKPOINT_BYTES / 1e3 / answers.milliseconds(server, 50) for server in question.works
    )
    return [Figure(question.name, "MB/s", speed, "nginx", theirs, speed / theirs)]


def _durations(
    name: str,
    answers: Answers,
    peer: str,
    percentiles: tuple[int, ...],
    limits: Mapping[int, float] | None = None,
) -> list[Figure]:
    """Compare each percentile on each database with the peer's, and with its limit if any."""
    found = []
    for kind in DATABASES:
        for percentile in percentiles:
            ours, theirs = (answers.milliseconds(s, percentile) for s in (kind, peer))
            label = f"{name}, p{percentile}, {kind}"
            found.append(_ahead(label, "ms", ours, peer, theirs, theirs / ours))
            limit = (limits or {}).get(percentile)
            if limit is not None:
                ratio = limit / ours
                found.append(
                    Figure(label, "ms", ours, "the limit", limit, ratio, 1, met=ratio >= 1)
                )
    return found


def _ahead(name: str, unit: str, ours: float, peer: str, theirs: float, ratio: float) -> Figure:
    return Figure(name, unit, ours, peer, theirs, ratio, AHEAD, met=ratio >= AHEAD)
