"""API documentation for browsers: the OpenAPI document, and Swagger UI to show it.

Open without a key, since a browser requests a page without one: it is the same for every service of
this version, and shows none of its data. The key is typed into the page (*Authorize*), which keeps
it in memory only. Nothing is loaded from another host.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from api.auth.requirements import EVERYBODY
from api.http.openapi import Document

_PACKAGE = "fastapi-swagger"
"""The package that contains Swagger UI's files; its code is not used."""
_FILES = Path(str(files("fastapi_swagger") / "resources"))
_VERSION = version(_PACKAGE)
_PAGE = f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>PMAE REST API</title>
<link rel="icon" type="image/png" href="docs/favicon.png?v={_VERSION}">
<link rel="stylesheet" href="docs/swagger-ui.css?v={_VERSION}">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js?v={_VERSION}"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """\
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  filter: true,
  persistAuthorization: false,
  tryItOutEnabled: true,
  validatorUrl: null,
});
"""
_PAGE_HEADERS = {
    # A key is typed into this page, so it runs only these scripts and sends only to this host.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
"""For files whose URL contains the version."""

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json", dependencies=[EVERYBODY])
def openapi_document(request: Request) -> Response:
    """Return the OpenAPI document."""
    document: Document = request.app.state.document
    return Response(document.as_json, media_type="application/json")


@router.get("/docs", dependencies=[EVERYBODY])
async def docs_page() -> Response:
    """Return the page. Its URLs are relative, so that a proxy may add a prefix."""
    return HTMLResponse(_PAGE, headers=_PAGE_HEADERS)


@router.get("/docs/start.js", dependencies=[EVERYBODY])
async def docs_start() -> Response:
    """Return the script that starts Swagger UI; the page may not contain scripts."""
    return Response(_START, media_type="text/javascript", headers={"Cache-Control": "no-cache"})


@router.get("/docs/swagger-ui-bundle.js", dependencies=[EVERYBODY])
async def docs_script() -> Response:
    """Return the script of Swagger UI."""
    return FileResponse(_FILES / "swagger-ui-bundle.js", headers=_FOREVER)


@router.get("/docs/swagger-ui.css", dependencies=[EVERYBODY])
async def docs_style() -> Response:
    """Return the style sheet of Swagger UI."""
    return FileResponse(_FILES / "swagger-ui.css", headers=_FOREVER)


@router.get("/docs/favicon.png", dependencies=[EVERYBODY])
async def docs_icon() -> Response:
    """Return the icon of the page."""
    return FileResponse(_FILES / "favicon-32x32.png", headers=_FOREVER)
