"""Every route of the application, asked by everybody who may not."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest
from fastapi import APIRouter, Depends

from api.auth.requirements import ADMIN, VIEWER, Operation, Permissions
from api.main import ROUTERS
from pmae.schema.access import ROLES
from tests.api.auth.conftest import LockedApi, bearer
from tests.api.live import DIGITS

HEALTH = {"/api/v1/livez", "/api/v1/readyz"}
DOCUMENTATION = {
    "/api/v1/openapi.json",
    "/api/v1/docs",
    "/api/v1/docs/start.js",
    "/api/v1/docs/swagger-ui-bundle.js",
    "/api/v1/docs/swagger-ui.css",
    "/api/v1/docs/favicon.png",
}
OPEN = HEALTH | DOCUMENTATION
PERMISSIONS = Permissions(ROUTERS)


def requests(run_id: str) -> Iterator[tuple[Operation, str, str]]:
    """Each operation with a method and a path, of a run that is there where one is named."""
    for operation in PERMISSIONS.operations:
        values = {
            "run_id": run_id,
            "checkpoint_id": f"{run_id}-00000640",
            "file_name": "model.safetensors",
            "index": "0",
            "name": "quickstart",
            "session_id": "0123456789ab",
        }
        for method in operation.methods:
            yield operation, method, operation.path.format(**values)


def ask(locked: LockedApi, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    return locked.live.client.request(method, locked.live.url + path, headers=headers)


def test_no_route_answers_without_a_key_that_holds(
    locked: LockedApi, subtests: pytest.Subtests
) -> None:
    run = locked.live.add_run()
    locked.live.add_checkpoint(run, {"model.safetensors": b"x"})
    true = locked.key("somebody", "admin").key
    wrong = true[:-1] + ("A" if true[-1] != "A" else "B")
    strangers = {
        "key_required": {},
        "key_invalid": bearer(wrong),
        "key_revoked": locked.headers("revoked", "admin", revoked_at=time.time()),
        "key_expired": locked.headers("expired", "admin", expires_at=time.time() - 1),
        "session_invalid": bearer(f"pmaes_{true.partition('_')[2]}"),
        "session_ended": locked.session_headers("ended", revoked_at=time.time()),
        "session_expired": locked.session_headers("over", expires_at=time.time() - 1),
    }
    everything = list(requests(run.id))
    assert len(everything) > 25
    for operation, method, path in everything:
        for code, headers in strangers.items():
            with subtests.test(operation=operation.name, method=method, code=code):
                response = ask(locked, method, path, headers)
                if operation.path in OPEN:
                    assert response.status_code in (200, 503)
                    continue
                assert response.status_code == 401
                assert response.headers["www-authenticate"].startswith("Bearer")
                if method != "HEAD":
                    assert response.json()["code"] == code
    assert locked.live.count_runs() == 1


def test_what_is_no_operation_needs_a_key_too(locked: LockedApi) -> None:
    for path in (
        "/",
        "/docs",
        "/openapi.json",
        "/api/v1/docs/",
        "/api/v1/docs/no.js",
        "/api/v1/livez/",
        "/api/v1/nothing",
    ):
        assert ask(locked, "GET", path, {}).status_code == 401
    headers = locked.headers("reader")
    assert ask(locked, "GET", "/api/v1/nothing", headers).status_code == 404


def test_each_route_refuses_smaller_roles(locked: LockedApi, subtests: pytest.Subtests) -> None:
    run = locked.live.add_run(owner="somebody else")
    locked.live.add_checkpoint(run, {"model.safetensors": b"x"})
    headers = {role: locked.headers(f"a-{role}", role) for role in ROLES}
    for operation, method, path in requests(run.id):
        needed = operation.needs.role
        if needed is None:
            continue
        for role in ROLES[: ROLES.index(needed)]:
            with subtests.test(operation=operation.name, method=method, role=role):
                response = ask(locked, method, path, headers[role])
                assert (response.status_code, response.json()["code"]) == (403, "role_too_small")
                assert needed in response.json()["detail"]
        if operation.needs.owns_run:
            with subtests.test(operation=operation.name, method=method, owner="somebody else"):
                response = ask(locked, method, path, headers["submitter"])
                assert (response.status_code, response.json()["code"]) == (403, "not_the_owner")
                assert "somebody else" in response.json()["detail"]
    with locked.live.sessions() as session:
        assert session.get(type(run), run.number).state == "queued"  # type: ignore[union-attr]


def test_everything_that_writes_needs_more_than_to_read() -> None:
    reading_posts = {"reconstruct", "create_links"}
    for operation in PERMISSIONS.operations:
        reads = operation.methods <= {"GET", "HEAD"} or operation.name in reading_posts
        if reads:
            assert operation.needs.role in (None, "viewer") or operation.path.endswith(
                ("/keys", "/audit")
            )
        else:
            assert operation.needs.writes, operation.name
    assert PERMISSIONS.open_paths == OPEN


def test_owners_and_admins_change_a_run(locked: LockedApi) -> None:
    with (
        locked.client("ada", "submitter") as ada,
        locked.client("bob", "submitter") as bob,
        locked.client("root", "admin") as root,
    ):
        run = ada.submit(DIGITS)
        assert run.owner == "ada"
        assert bob.runs().items[0].owner == "ada"
        assert ada.cancel(run.id).state == "cancelled"
        assert root.resume(run.id).state == "queued"
        assert {entry.actor for entry in bob.history(run.id).items} == {"ada", "root"}
        copied = bob.rerun(run.id)
        assert (copied.owner, copied.rerun_of) == ("bob", run.id)
        ada.cancel(run.id)
        ada.delete(run.id)
        assert [found.id for found in bob.runs().items] == [copied.id]


def test_strangers_are_not_told_what_is_wrong(locked: LockedApi) -> None:
    stranger = ask(locked, "GET", "/api/v1/readyz", {}).json()
    known = ask(locked, "GET", "/api/v1/readyz", locked.headers("reader")).json()
    assert stranger == {"ready": False, "checks": {}}
    assert known["checks"]["broker"] == "does not answer"


def test_the_body_of_a_stranger_is_not_read(locked: LockedApi) -> None:
    response = locked.live.client.post("/runs", content=b"{", headers={"content-type": "a/b"})
    assert response.json()["code"] == "key_required"


def test_a_route_that_declares_nothing_or_two_things_stops_the_start() -> None:
    router = APIRouter()
    router.get("/open", dependencies=[Depends(lambda: None)])(lambda: None)
    with pytest.raises(TypeError, match="/open"):
        Permissions([("/api/v1", router)])
    router = APIRouter(dependencies=[VIEWER])
    router.get("/two", dependencies=[ADMIN])(lambda: None)
    with pytest.raises(TypeError, match="/two"):
        Permissions([("/api/v1", router)])
