"""Sessions of browsers: begun with a key, taken in its place, ended with it and before."""

from __future__ import annotations

import time

import httpx
import pytest
from sqlalchemy import func, select, update

from api.auth.sign_ins import KEPT_DAYS, browser_name
from api.db.tables import ApiKeyRow, SignInSessionRow
from api.settings import ApiSettings
from pmae.client import ApiError, PmaeClient
from pmae.schema.access import SignInSession
from tests.api.auth.conftest import LockedApi, bearer
from tests.api.live import DIGITS, LiveApi, live_api, problem
from tests.support.waiting import wait_until

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0"


def days_of(made: SignInSession) -> float:
    return (made.expires_at - made.created_at).total_seconds() / 86_400


def test_a_session_stands_for_its_key(locked: LockedApi) -> None:
    with locked.client("ada", "submitter") as ada, PmaeClient(locked.live.url) as connection:
        made = ada.create_session(user_agent=FIREFOX)
        assert made.token.startswith(f"pmaes_{made.id}_")
        assert days_of(made) == pytest.approx(30, abs=1e-3)
        assert (made.name, made.browser, made.last_used_at) == ("ada", "Firefox 131, Linux", None)
        browser = connection.with_key(made.token)
        assert browser.identity() == ada.identity()
        run = browser.submit(DIGITS)
        assert run.owner == "ada"
        assert browser.history(run.id).items[0].actor == "ada"
        assert [(one.id, one.current) for one in browser.sessions()] == [(made.id, True)]
        assert [(one.id, one.current) for one in ada.sessions()] == [(made.id, False)]
        wait_until(lambda: ada.sessions()[0].last_used_at is not None, "the note of its use")
        with pytest.raises(ApiError) as refused:
            browser.drain("worker")
        assert refused.value.problem.code == "role_too_small"


def test_it_is_ended_by_itself_and_by_id(locked: LockedApi) -> None:
    with locked.client("ada") as ada, PmaeClient(locked.live.url) as connection:
        first, second = ada.create_session(), ada.create_session()
        connection.with_key(first.token).end_session()
        with pytest.raises(ApiError, match="the session was ended; sign in again") as ended:
            connection.with_key(first.token).identity()
        assert (ended.value.problem.status, ended.value.problem.code) == (401, "session_ended")
        assert [one.id for one in ada.sessions()] == [second.id]
        ada.end_session(second.id)
        ada.end_session(second.id)
        assert ada.sessions() == []
        assert ada.identity().name == "ada", "the key itself goes on"
        with pytest.raises(ApiError, match="expected the token of a session"):
            ada.end_session()


def test_it_ends_with_its_key(locked: LockedApi) -> None:
    revoked, expired = locked.session("ada"), locked.session("eve")
    removed = locked.session("bob")
    with locked.client("root", "admin") as root, PmaeClient(locked.live.url) as connection:
        root.revoke_key("ada")
        with locked.live.sessions.begin() as session:
            session.execute(update(ApiKeyRow).where(ApiKeyRow.name == "eve").values(expires_at=1.0))
        root.revoke_key("bob")
        root.create_key("bob", "admin")
        for made, code in (
            (revoked, "key_revoked"),
            (expired, "key_expired"),
            (removed, "session_invalid"),
        ):
            with pytest.raises(ApiError) as refused:
                connection.with_key(made.token).identity()
            assert (refused.value.problem.status, refused.value.problem.code) == (401, code)
        assert root.sessions() == []


def test_it_does_not_outlive_its_key_nor_its_own_days(
    locked: LockedApi, locked_settings: ApiSettings
) -> None:
    end = time.time() + 3_600
    key = locked.key("ada", expires_at=end)
    with PmaeClient(locked.live.url, api_key=key.key) as ada:
        made = ada.create_session()
        assert made.expires_at.timestamp() == pytest.approx(end, abs=1e-3)
        assert ada.sessions()[0].expires_at == made.expires_at
    over = locked.session("eve", expires_at=time.time() - 1)
    answer = locked.live.client.get("/identity", headers=bearer(over.token))
    assert problem(answer, 401).code == "session_expired"
    with live_api(locked_settings.model_copy(update={"session_days": 2})) as other:
        assert days_of(LockedApi(other).session("bob")) == pytest.approx(2, abs=1e-3)


def test_a_session_does_not_beget_another(locked: LockedApi) -> None:
    token = locked.session("ada").token
    answer = locked.live.client.post("/sessions", headers=bearer(token))
    assert problem(answer, 403).code == "key_needed"
    assert "Bearer pmae_" in answer.json()["detail"]


def test_others_sessions_are_an_admins(locked: LockedApi) -> None:
    of_ada, of_bob = locked.session("ada"), locked.session("bob", "submitter")
    with locked.client("root", "admin") as root, PmaeClient(locked.live.url) as connection:
        bob = connection.with_key(of_bob.token)
        assert [one.name for one in bob.sessions()] == ["bob"]
        with pytest.raises(ApiError) as hidden:
            bob.end_session(of_ada.id)
        assert (hidden.value.problem.status, hidden.value.problem.code) == (
            404,
            "session_not_found",
        )
        assert {one.name for one in root.sessions()} == {"ada", "bob"}
        root.end_session(of_ada.id)
        assert {one.name for one in root.sessions()} == {"bob"}


def test_the_trail_shows_its_begin_its_end_and_what_it_did(locked: LockedApi) -> None:
    with locked.client("root", "admin") as root, PmaeClient(locked.live.url) as connection:
        made = locked.session("ada", "submitter")
        browser = connection.with_key(made.token)
        browser.submit(DIGITS)
        browser.end_session()
        with locked.client("bob") as bob, pytest.raises(ApiError):
            bob.end_session(made.id)
        wait_until(lambda: len(root.audit().items) == 4, "four entries")
        told = {(e.actor, e.operation, e.status) for e in root.audit().items}
    assert told == {
        ("ada", "create_session", 201),
        ("ada", "submit_run", 202),
        ("ada", "end_current_session", 204),
        ("bob", "end_session", 404),
    }


def test_only_its_digest_is_kept_and_no_key_is_taken_for_a_token(locked: LockedApi) -> None:
    made = locked.session("ada")
    with locked.live.sessions() as session:
        (row,) = session.scalars(select(SignInSessionRow)).all()
    secret = made.token.split("_", 2)[2]
    assert secret not in str(vars(row))
    for text, code in (
        (f"pmae_{made.id}_{secret}", "key_invalid"),
        (made.token[:-1] + ("A" if made.token[-1] != "A" else "B"), "session_invalid"),
        (f"pmaes_{'0' * 12}_{secret}", "session_invalid"),
        (made.token + "x", "key_invalid"),
    ):
        answer = locked.live.client.get("/identity", headers=bearer(text))
        assert problem(answer, 401).code == code


def test_no_cookie_is_read(locked: LockedApi) -> None:
    made = locked.session("ada")
    names = ("pmae_session", "__Host-pmae_session", "Authorization")
    cookies = "; ".join(f"{name}={made.token}" for name in names)
    answer = locked.live.client.get("/identity", headers={"Cookie": cookies})
    assert problem(answer, 401).code == "key_required"


def test_links_that_it_made_are_its_keys(locked: LockedApi) -> None:
    run = locked.live.add_run()
    locked.live.add_checkpoint(run, {"config.json": b"{}"})
    made = locked.session("ada")
    with PmaeClient(locked.live.url, api_key=made.token) as browser:
        (link,) = browser.download_links(f"{run.id}-00000640")
        browser.end_session()
    assert httpx.get(link.url, trust_env=False).content == b"{}", "it holds for its minutes"
    with locked.client("root", "admin") as root:
        root.revoke_key("ada")
    assert httpx.get(link.url, trust_env=False).status_code == 403


def test_what_ended_long_ago_is_forgotten(locked: LockedApi) -> None:
    long_ago = time.time() - (KEPT_DAYS + 1) * 86_400
    locked.session("ada", revoked_at=long_ago)
    locked.session("bob", expires_at=long_ago)
    recent = locked.session("eve", revoked_at=time.time() - 86_400)
    newest = locked.session("root", "admin")
    with locked.live.sessions() as session:
        assert set(session.scalars(select(SignInSessionRow.id))) == {recent.id, newest.id}


def test_where_keys_are_off_nobody_signs_in(api: LiveApi) -> None:
    answer = api.client.post("/sessions")
    assert problem(answer, 409).code == "keys_are_off"
    assert api.client.get("/sessions").json() == {"items": []}
    assert problem(api.client.delete("/sessions/current"), 404).code == "session_not_found"
    with api.sessions() as session:
        assert session.scalar(select(func.count()).select_from(SignInSessionRow)) == 0


WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "shown"),
    [
        (FIREFOX, "Firefox 131, Linux"),
        (
            f"Mozilla/5.0 (Windows NT 10.0; Win64) {WEBKIT} Chrome/129 Safari/537.36 Edg/129.0",
            "Edge 129, Windows",
        ),
        (
            f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Chrome/129 Safari/537.36",
            "Chrome 129, macOS",
        ),
        (
            f"Mozilla/5.0 (iPhone; like Mac OS X) {WEBKIT} Version/17.6 Mobile/15E148 Safari/604",
            "Safari 17, iOS",
        ),
        (
            f"Mozilla/5.0 (Linux; Android 14) {WEBKIT} Chrome/129.0.0.0 Mobile Safari/537.36",
            "Chrome 129, Android",
        ),
        ("python-httpx/0.28.1", "python-httpx/0.28.1"),
        ("", ""),
        ("a\x00b\n" + "c" * 500, "ab" + "c" * 78),
    ],
)
def test_a_browser_is_named_for_people(user_agent: str, shown: str) -> None:
    assert browser_name(user_agent) == shown
