"""A page in a real browser signs its user in through FastMCP's OAuth proxy, and calls a tool."""

from __future__ import annotations

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit

import pytest
from fastmcp.server.auth.providers.jwt import RSAKeyPair

from tests.e2e.cutting import Cutter

from .conftest import Browser, containers

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.support.databases import Databases

CODE = "the-code"
FORM = (
    '<!doctype html><link rel="icon" href="data:,">'
    '<form method="post" action="/signed-in?{query}"><button>Sign in</button></form>'
)
METADATA = "/.well-known/oauth-protected-resource/mcp"
SERVER = "/.well-known/oauth-authorization-server"


class Provider:
    """The identity provider behind the proxy: a page with a button, and tokens that it signs."""

    def __init__(self) -> None:
        self.keys = RSAKeyPair.generate()
        self.url = ""
        self.paths: list[str] = []

    def token(self) -> dict[str, Any]:
        token = self.keys.create_token("ann", issuer=self.url, audience="the-proxy", scopes=["use"])
        return {"access_token": token, "token_type": "Bearer", "expires_in": 3600, "scope": "use"}

    def answer(
        self, method: str, path: str, query: dict[str, str], form: dict[str, str]
    ) -> str | SplitResult | dict[str, Any]:
        """Return a page, an address to go to, or the content of a JSON answer."""
        self.paths.append(f"{method} {path}")
        if (method, path) == ("GET", "/authorize"):
            return FORM.format(query=urlencode(query))
        if (method, path) == ("POST", "/signed-in"):
            answer = urlencode({"code": CODE, "state": query["state"]})
            return urlsplit(f"{query['redirect_uri']}?{answer}")
        assert (method, path, form["code"]) == ("POST", "/token", CODE)
        return self.token()


@contextmanager
def running(provider: Provider) -> Generator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            answer = provider.answer(self.command, place.path, flat(place.query), flat(body))
            if isinstance(answer, SplitResult):
                self.send_response(303)
                self.send_header("location", answer.geturl())
                answer = ""
            else:
                self.send_response(200)
            is_page = isinstance(answer, str)
            self.send_header("content-type", "text/html" if is_page else "application/json")
            self.end_headers()
            self.wfile.write((answer if is_page else json.dumps(answer)).encode())

        do_POST = do_GET  # noqa: N815 - http.server's name

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.url = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()


def flat(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text).items()}


@pytest.fixture
def provider() -> Generator[Provider]:
    with running(Provider()) as provider:
        yield provider


async def test_a_page_of_another_origin_signs_in_and_calls_a_tool_in_both_eras(
    browser: Browser, provider: Provider, databases: Databases
) -> None:
    database_url = databases.take()
    page = browser.pages.origin("friend")
    variables = {
        "TMCP_ALLOWED_ORIGINS": page,
        "PROVIDER_URL": provider.url,
        "PROVIDER_KEY": provider.keys.public_key,
    }
    # Connections go to both instances in turn, and what one of them has begun the other continues.
    async with Cutter() as front:
        variables["PUBLIC_URL"] = front.url.removesuffix("/mcp")
        with containers("tests.browser.guarded_server", database_url, count=2, **variables) as ports:
            front.lead_to(*ports)
            visit = await browser.run(
                "signIn", front.url, page=page, clicks=["Allow Access", "Sign in"], then="signedIn"
            )
            stranger = await browser.run(
                "attempts", front.url, front.url, page=browser.pages.origin("stranger")
            )
    databases.give_back(database_url)
    told = visit.result
    assert told["who"] == {"2025-11-25": "ann", "2026-07-28": "ann"}
    assert told["token"] == "Bearer"
    assert provider.paths == ["GET /authorize", "POST /signed-in", "POST /token"]
    assert visit.statuses("GET", METADATA)[0] == visit.statuses("GET", SERVER)[0] == 200
    assert visit.statuses("POST", "/register") == [201]
    assert visit.statuses("POST", "/token") == [200]
    assert 401 in visit.statuses("POST")
    assert set(visit.statuses("OPTIONS")) == {200}
    assert stranger.result["client"] == "TypeError"
    assert set(stranger.statuses("POST")) == {403}
