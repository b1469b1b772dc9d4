"""Signing in and out over HTTP: the real dashboard before a real service."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import httpx
import pytest

from pmae.client import PmaeClient
from tests.api.live import LiveApi
from tests.dashboard.locked import end_key, make_key, sign_in_token
from tests.dashboard.server import ServedDashboard, served_dashboard
from tests.support.ports import free_port

DEEP = "/reconstructions?run=0123abcd&images=0-3"


_NUMBERS = itertools.count()


def another(name: str) -> str:
    """A key's name that no test has had."""
    return f"{name}-{next(_NUMBERS)}"


def post(browser: httpx.Client, path: str = "/auth/sign-in", **form: str) -> httpx.Response:
    """Send the form as a page of the dashboard itself does."""
    own = {"Origin": str(browser.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    return browser.post(path, data=form, headers=own)


def fault(response: httpx.Response) -> str:
    found = re.search(r'role="alert">(.*?)</p>', response.text)
    assert found, response.text
    return re.sub("<[^>]*>", "", found[1]).replace("&#39;", "'")


def cookie_name(dashboard: ServedDashboard) -> str:
    return f"pmae_session_{dashboard.port}"


def test_a_deep_link_leads_through_the_question_for_a_key_and_back(
    browser: httpx.Client, dashboard: ServedDashboard, live: LiveApi
) -> None:
    asked = browser.get(DEEP)
    assert asked.status_code == 303
    question = browser.get(asked.headers["location"])
    assert question.status_code == 200
    assert 'type="password"' in question.text
    assert "docker compose run --rm api pmae keys create NAME --role admin" in question.text
    (kept,) = re.findall(r'name="next" value="([^"]*)"', question.text)
    assert kept.replace("&amp;", "&") == DEEP

    key = make_key(live, "ada", "submitter").key
    answer = post(browser, key=f" {key} ", next=DEEP)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{cookie_name(dashboard)}=pmaes_")
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert key not in answer.text + str(answer.headers)

    back = browser.get(answer.headers["location"])
    assert (back.status_code, back.headers["location"]) == (303, DEEP)
    page = browser.get(DEEP)
    assert (page.status_code, "streamlit" in page.text.lower()) == (200, True)
    with PmaeClient(live.url, api_key=key) as ada:
        assert [session.browser for session in ada.sessions()] == ["Firefox 131, Linux"]


@pytest.mark.parametrize(
    ("key", "status", "words"),
    [
        ("", 422, "The API key is malformed"),
        ("two words", 422, "The API key is malformed"),
        ("schlüssel", 422, "The API key is malformed"),
        ("pmae_000000000000_" + "A" * 43, 403, "The key is unknown to this service"),
        ("pmae_", 403, "The key is unknown to this service"),
    ],
)
def test_a_wrong_key_is_asked_for_again_on_the_same_page(
    browser: httpx.Client, key: str, status: int, words: str
) -> None:
    answer = post(browser, key=key, next=DEEP)
    assert answer.status_code == status
    assert words in fault(answer)
    assert f'value="{DEEP.replace("&", "&amp;")}"' in answer.text
    assert "set-cookie" not in answer.headers
    assert not key or key not in answer.text.replace('placeholder="pmae_…"', "")


def test_ended_keys_and_tokens_are_told_apart(browser: httpx.Client, live: LiveApi) -> None:
    key = make_key(live, "eve").key
    token = sign_in_token(live, "mallory")
    end_key(live, "eve")
    assert "The key 'eve' was revoked" in fault(post(browser, key=key))
    assert "A session begins with a key" in fault(post(browser, key=token))


def test_nothing_that_was_typed_becomes_markup(browser: httpx.Client) -> None:
    answer = post(browser, key="x", next='/"><script>alert(1)</script>')
    assert "<script" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


@pytest.mark.parametrize("outside", ["//evil.example", "/\\evil.example", "https://evil.example"])
def test_signing_in_leads_nowhere_else(browser: httpx.Client, live: LiveApi, outside: str) -> None:
    key = make_key(live, another("redirected")).key
    answer = post(browser, key=key, next=outside)
    assert answer.headers["location"] == "/auth/sign-in?next=%2F&signed_in=1"
    answer = browser.get("/auth/sign-in", params={"next": outside})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize("path", ["/auth/sign-in", "/auth/sign-out"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "OWN", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_forms_of_other_sites_neither_sign_in_nor_out(
    browser: httpx.Client, live: LiveApi, path: str, headers: dict[str, str]
) -> None:
    token = sign_in_token(live, another("victim"))
    browser.cookies.set(f"pmae_session_{browser.base_url.port}", token)
    own = str(browser.base_url).rstrip("/")
    sent = {name: value.replace("OWN", own) for name, value in headers.items()}
    answer = browser.post(path, data={"key": make_key(live, another("attacker")).key}, headers=sent)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    with PmaeClient(live.url, api_key=token) as still:
        assert still.identity().name


def test_behind_a_proxy_that_ends_tls_the_cookie_is_for_https_alone(
    browser: httpx.Client, live: LiveApi
) -> None:
    proxied = {"Host": "lab.example", "X-Forwarded-Proto": "https"}
    key = make_key(live, "proxied").key
    for told in (proxied, {"Host": "lab.example"}):
        plain = {**proxied, "Origin": "http://lab.example"}
        foreign = browser.post("/auth/sign-in", headers=plain, data={"key": key})
        assert foreign.status_code == 403, "whoever sits in the network can show such a page"
        own = {**told, "Origin": "https://lab.example", "Sec-Fetch-Site": "same-origin"}
        answer = browser.post("/auth/sign-in", headers=own, data={"key": key})
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-pmae_session=pmaes_")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
    planted = {**proxied, "Cookie": f"pmae_session={sign_in_token(live, another('attacker'))}"}
    assert browser.get("/", headers=planted).status_code == 303, "it is not taken for the reader's"


def test_a_proxy_that_changes_the_host_is_told_what_to_mend(browser: httpx.Client) -> None:
    behind = {"Host": "dashboard:8501", "Origin": "https://lab.example"}
    answer = browser.post("/auth/sign-in", headers=behind)
    assert answer.status_code == 403
    assert "the proxy in front of it has to pass on the Host header" in answer.text


def test_a_session_that_ended_is_told_and_the_way_back_is_kept(
    browser: httpx.Client, dashboard: ServedDashboard, live: LiveApi
) -> None:
    browser.cookies.set(cookie_name(dashboard), sign_in_token(live, "revoked"))
    assert browser.get(DEEP).status_code == 200
    end_key(live, "revoked")
    asked = browser.get(DEEP)
    question = browser.get(asked.headers["location"])
    assert "The key 'revoked' was revoked; an admin creates a new one" in fault(question)
    assert DEEP.replace("&", "&amp;") in question.text
    assert "Max-Age=0" in question.headers["set-cookie"]


def test_a_cookie_that_no_header_carries_is_forgotten(
    browser: httpx.Client, dashboard: ServedDashboard
) -> None:
    odd = {"Cookie": f'{cookie_name(dashboard)}="a b"'}
    assert browser.get(DEEP, headers=odd).status_code == 303
    question = browser.get("/auth/sign-in", headers=odd)
    assert question.status_code == 200
    assert "Max-Age=0" in question.headers["set-cookie"]


def test_a_browser_that_keeps_no_cookie_is_told_so(browser: httpx.Client) -> None:
    answer = browser.get("/auth/sign-in", params={"next": DEEP, "signed_in": 1})
    assert "this browser did not store the session's cookie" in fault(answer)


def test_signing_out_ends_the_session_and_forgets_it(
    browser: httpx.Client, dashboard: ServedDashboard, live: LiveApi
) -> None:
    token = sign_in_token(live, "leaving")
    browser.cookies.set(cookie_name(dashboard), token)
    answer = post(browser, "/auth/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/auth/sign-in")
    assert f'{cookie_name(dashboard)}=""' in answer.headers["set-cookie"]
    gone = httpx.get(
        f"{live.url}/api/v1/identity",
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
    )
    assert (gone.status_code, gone.json()["code"]) == (401, "session_ended")
    assert post(browser, "/auth/sign-out").status_code == 303, "again changes nothing"


def test_following_a_link_signs_nobody_out(
    browser: httpx.Client, dashboard: ServedDashboard, live: LiveApi
) -> None:
    token = sign_in_token(live, another("staying"))
    browser.cookies.set(cookie_name(dashboard), token)
    assert "set-cookie" not in browser.get("/auth/sign-out").headers
    assert browser.get(DEEP).status_code == 200


def test_a_form_that_is_too_long_is_not_read(browser: httpx.Client) -> None:
    assert post(browser, key="x" * 100_000).status_code == 413


def test_every_answer_has_the_headers(browser: httpx.Client, dashboard: ServedDashboard) -> None:
    for path in ("/", "/_stcore/health", "/auth/sign-in", "/static/none.js", "/no/page"):
        headers = browser.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "frame-ancestors" in headers["content-security-policy"]
        assert "server" not in headers


def test_programs_get_the_page_without_a_question(browser: httpx.Client) -> None:
    answer = browser.get("/", headers={"Accept": "*/*"})
    assert answer.status_code == 200
    assert "streamlit" in answer.text.lower()


def test_the_key_is_in_no_log(browser: httpx.Client, dashboard: ServedDashboard) -> None:
    post(browser, key="pmae_000000000000_" + "S" * 43)
    assert "S" * 43 not in dashboard.log.read_text()


def test_a_service_that_does_not_answer_is_told_as_such(tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with (
        served_dashboard(tmp_path, {"PMAE_API_URL": address}) as alone,
        httpx.Client(base_url=alone.url, trust_env=False) as browser,
    ):
        assert browser.get(DEEP, headers={"Accept": "text/html"}).status_code == 200
        for answer in (browser.get("/auth/sign-in"), post(browser, key="pmae_x", next=DEEP)):
            assert answer.status_code == 503
            assert "The service does not answer" in fault(answer)
            assert "set-cookie" not in answer.headers
        browser.cookies.set(cookie_name(alone), "pmaes_x")
        answer = post(browser, "/auth/sign-out")
        assert answer.status_code == 503
        assert "This browser is signed out, but" in fault(answer)
        assert "Max-Age=0" in answer.headers["set-cookie"]
