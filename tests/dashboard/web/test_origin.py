"""Which site a request was sent to, its cookie, and where one may go after signing in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie

import pytest
from starlette.responses import Response

from dashboard.web.origin import Site, safe_next, site_of


@pytest.mark.parametrize(
    ("headers", "scheme", "site"),
    [
        ({"host": "localhost:8501"}, "http", Site("localhost:8501", False)),
        ({"host": "Lab.Example"}, "wss", Site("lab.example", True)),
        ({"host": "lab", "x-forwarded-proto": "https, http"}, "http", Site("lab", True)),
        ({"host": "lab", "x-forwarded-proto": "http"}, "http", Site("lab", False)),
        ({"host": "lab:9", "origin": "https://lab:9"}, "ws", Site("lab:9", True)),
        ({"host": "lab:9", "origin": "https://evil:9"}, "ws", Site("lab:9", False)),
        ({}, "http", Site("", False)),
    ],
)
def test_a_site_is_what_the_browser_was_asked_for(
    headers: dict[str, str], scheme: str, site: Site
) -> None:
    assert site_of(headers, scheme) == site


@pytest.mark.parametrize(
    ("site", "cookie"),
    [
        (Site("localhost:8501", False), "pmae_session_8501"),
        (Site("localhost:8502", False), "pmae_session_8502"),
        (Site("[::1]:8501", False), "pmae_session_8501"),
        (Site("[::1]", False), "pmae_session"),
        (Site("lab.example", True), "__Host-pmae_session"),
        (Site("lab.example:8443", True), "__Host-pmae_session_8443"),
        (Site("lab:x;y", False), "pmae_session"),
    ],
)
def test_two_dashboards_of_a_host_have_cookies_of_their_own(site: Site, cookie: str) -> None:
    assert site.cookie == cookie


@pytest.mark.parametrize(
    ("site", "origin", "own"),
    [
        (Site("localhost:8501", False), "http://localhost:8501", True),
        (Site("localhost:8501", False), "http://localhost:3000", False),
        (Site("localhost:8501", False), "http://127.0.0.1:8501", False),
        (Site("lab.example", False), "https://lab.example", True),
        (Site("lab.example", True), "http://lab.example", False),
        (Site("lab.example", True), "https://lab.example.evil.example", False),
        (Site("lab.example", True), "https://evil.example/https://lab.example", False),
        (Site("lab.example", True), "HTTPS://LAB.example", True),
        (Site("", False), "null", False),
    ],
)
def test_only_pages_of_the_same_host_and_port_are_own(site: Site, origin: str, own: bool) -> None:
    assert site.owns(origin) is own


def test_the_cookie_is_kept_from_scripts_and_from_http() -> None:
    until = datetime.now(UTC) + timedelta(days=30)
    for site in (Site("localhost:8501", False), Site("lab.example", True)):
        response = Response()
        site.keep(response, "pmaes_x", until)
        (morsel,) = SimpleCookie(response.headers["set-cookie"]).values()
        assert (morsel.key, morsel.value) == (site.cookie, "pmaes_x")
        assert (morsel["path"], morsel["domain"], morsel["samesite"]) == ("/", "", "lax")
        assert bool(morsel["httponly"])
        assert bool(morsel["secure"]) is site.is_https
        assert 30 * 86_400 - 60 < int(morsel["max-age"]) <= 30 * 86_400
        assert site.token({site.cookie: "pmaes_x"}) == "pmaes_x"
        response = Response()
        site.forget(response)
        gone = [SimpleCookie(line) for line in response.headers.getlist("set-cookie")]
        (ours,) = [jar[site.cookie] for jar in gone if site.cookie in jar]
        assert (ours["max-age"], bool(ours["secure"])) == ("0", site.is_https)


def test_over_https_no_cookie_counts_that_http_could_have_set() -> None:
    planted = {"pmae_session": "planted"}
    assert Site("lab.example", True).token(planted) is None
    assert Site("lab.example", False).token(planted) == "planted"
    both = planted | {"__Host-pmae_session": "own"}
    assert Site("lab.example", False).token(both) == "own", "a browser sends it over https alone"


@pytest.mark.parametrize(
    "address",
    ["/", "/run?run=0123abcd", "/reconstructions?run=a&images=0-3#x", "/components?q=//a", "/é"],
)
def test_pages_of_the_dashboard_are_gone_to(address: str) -> None:
    assert safe_next(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "run",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "\\evil.example",
        "/run\\..\\x",
        "/\t/evil.example",
        "/\n/evil.example",
        "\t//evil.example",
        "/\x00",
        " //evil.example",
        "https://evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "/auth/sign-in?next=/auth/sign-in",
        "/" + "x" * 2_000,
        "//[",
    ],
)
def test_nothing_else_is(address: str) -> None:
    assert safe_next(address) == "/"
