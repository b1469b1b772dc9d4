"""The dashboard run without a browser, against a service over HTTP."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

SCRIPT = Path(__file__).parents[2] / "dashboard" / "app.py"
DEFAULT_PAGE = "runs"


@dataclass
class Browser:
    """What a browser sends with the websocket of a page."""

    headers: dict[str, str] = field(
        default_factory=lambda: {"Host": "lab:8501", "Origin": "http://lab:8501"}
    )
    cookies: dict[str, str] = field(default_factory=dict)

    def keep(self, token: str | None) -> None:
        """Hold the cookie of a session, or none."""
        self.cookies.clear()
        if token is not None:
            self.cookies["pmae_session_8501"] = token


@dataclass
class App:
    """Opens pages."""

    url: str

    def open(self, page: str = DEFAULT_PAGE, **address: str) -> View:
        """Open a page as a browser with this address would."""
        app = AppTest.from_file(str(SCRIPT), default_timeout=60)
        app._page_hash = calc_hash(page)
        for name, value in address.items():
            app.query_params[name] = value
        return View(app.run())


@dataclass
class View:
    """What stands on a page."""

    app: AppTest

    def check(self) -> None:
        """No page may show an exception."""
        assert [e.value for e in self.app.exception] == []

    @property
    def html(self) -> str:
        """All HTML of the page, that of the linked tables included."""
        plain = [element.proto.body for element in self.app.get("html")]
        linked = [
            json.loads(element.proto.json)["html"] for element in self.app.get("bidi_component")
        ]
        return "\n".join(plain + linked)

    @property
    def text(self) -> str:
        """What a reader sees of the HTML."""
        return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", self.html)))

    @property
    def charts(self) -> list[dict[str, Any]]:
        """The charts' specs."""
        return [json.loads(element.proto.spec) for element in self.app.get("vega_lite_chart")]

    def messages(self) -> list[str]:
        """Everything that informs, warns or complains."""
        return [e.value for e in (*self.app.info, *self.app.warning, *self.app.error)]
