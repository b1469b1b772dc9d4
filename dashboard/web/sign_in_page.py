"""The page that asks for a key: plain HTML that needs no script."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from markupsafe import Markup
from starlette.responses import HTMLResponse

_ASSETS = Path(__file__).parents[1] / "assets"
_STYLE = (_ASSETS / "sign_in.css").read_text(encoding="utf-8")
_ICON = base64.b64encode((_ASSETS / "icon.png").read_bytes()).decode()
_STYLE_SHA256 = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_SHA256}'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_PAGE = Markup("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Sign in · PMAE</title>
<link rel="icon" href="data:image/png;base64,{icon}">
<style>{style}</style>
</head>
<body>
<main>
<p class="brand"><img src="data:image/png;base64,{icon}" alt="" width="24" height="24">PMAE</p>
<h1>Sign in</h1>
<form method="post" action="/auth/sign-in">
<input type="hidden" name="next" value="{next}">
<label for="key">API key</label>
<input id="key" name="key" type="password" placeholder="pmae_…" required autofocus
 autocomplete="current-password" spellcheck="false"{described}>
{fault}<button>Sign in</button>
</form>
<p class="quiet">You stay signed in on this browser until you sign out, the key ends or the session
expires. The key itself is not kept.</p>
<details>
<summary>No key yet?</summary>
<p>An admin of this service makes one for you. The first is made where it runs:</p>
<pre><code>docker compose run --rm api pmae keys create NAME --role admin</code></pre>
<p>or, without containers:</p>
<pre><code>pmae keys create NAME --role admin</code></pre>
</details>
</main>
</body>
</html>
""")
_FAULT = Markup('<p class="fault" id="fault" role="alert">{}</p>\n')
_DESCRIBED = Markup(' aria-invalid="true" aria-describedby="fault"')


def sign_in_page(next_address: str, fault: str | None = None, *, status: int = 200) -> HTMLResponse:
    """Render the page.

    Args:
        next_address: page of this dashboard to open after signing in.
        fault: error message of the last attempt.
        status: HTTP status of the answer.
    """
    page = _PAGE.format(
        icon=_ICON,
        style=Markup(_STYLE),  # noqa: S704 - a file of this package
        next=next_address,
        fault=_FAULT.format(_sentence(fault)) if fault else "",
        described=_DESCRIBED if fault else "",
    )
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}
    return HTMLResponse(page, status_code=status, headers=headers)


def _sentence(text: str) -> Markup:
    """Format a message of the service as a sentence; text in backticks is code."""
    parts = f"{text[:1].upper()}{text[1:].removesuffix('.')}.".split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else part
        for number, part in enumerate(parts)
    )
