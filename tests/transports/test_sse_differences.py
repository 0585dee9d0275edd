"""HTTP+SSE refuses what the SDK's own transport refuses, with the same status, but for what is documented."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from mcp.server import MCPServer

from tests.differential.wire import lifespan
from tests.support.sse_client import SseClient
from tests.support.users import two_users
from tmcp_serverless import create_handler

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tmcp_serverless.transports.asgi import ASGIApp

DOCUMENT = Path(__file__).parents[2] / "docs" / "differences.md"
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
LIMIT = 4 * 1024 * 1024
LIVE = "live"
ALICE = {"authorization": "Bearer alice"}


class Case(NamedTuple):
    """One request beside a live session; `ours`: the status where it differs, and its entry."""

    name: str
    verb: str = "POST"
    path: str = "/message"
    session: str | None = LIVE
    body: Any = PING
    headers: dict[str, str | None] = {}  # noqa: RUF012 - never changed
    ours: tuple[int, str] | None = None


CASES = [
    Case("a message"),
    Case("a notification", body=b'{"jsonrpc":"2.0","method":"notifications/initialized"}'),
    Case("no session id", session=None),
    Case("an empty session id", session=""),
    Case("no uuid", session="nope"),
    Case("a quote", session="x%27%20OR%201=1"),
    Case("a NUL", session="%00"),
    Case("unicode", session="%F0%9F%8E%89"),
    Case("a very long id", session="a" * 5000),
    Case("an unknown uuid", session="0" * 32),
    Case("an unknown uuid with hyphens", session="00000000-0000-4000-8000-000000000000"),
    Case("no JSON", body=b"nope"),
    Case("no body", body=b""),
    Case("an empty object", body=b"{}"),
    Case("a number", body=b"7"),
    Case("not UTF-8", body=b'{"jsonrpc":"2.0","id":1,"method":"\xff"}'),
    Case("an empty batch", body=b"[]"),
    Case("no JSON, unknown session", session="0" * 32, body=b"nope"),
    Case("no JSON, no session", session=None, body=b"nope"),
    Case("no content type", headers={"content-type": None}),
    Case("text", headers={"content-type": "text/plain"}),
    Case("text, no session", session=None, headers={"content-type": "text/plain"}),
    Case("JSON with a charset", headers={"content-type": "application/json; charset=utf-8"}),
    Case("JSON in capitals", headers={"content-type": "Application/JSON"}),
    Case("too long", body=b" " * (LIMIT + 1)),
    Case("too long, text", body=b" " * (LIMIT + 1), headers={"content-type": "text/plain"}),
    Case("too long, no session", session=None, body=b" " * (LIMIT + 1)),
    Case("too long, unknown session", session="0" * 32, body=b" " * (LIMIT + 1)),
    Case("as long as may be", body=b" " * (LIMIT - len(PING)) + PING),
    Case("GET at the message path", verb="GET", body=b""),
    Case("PUT at the message path", verb="PUT"),
    Case("DELETE at the message path", verb="DELETE", body=b""),
    Case("OPTIONS at the message path", verb="OPTIONS", body=b"", ours=(204, "S1")),
    Case("HEAD at the message path", verb="HEAD", body=b""),
    Case("POST at the stream's path", path="/sse", session=None),
    Case("DELETE at the stream's path", verb="DELETE", path="/sse", session=None, body=b""),
    Case(
        "OPTIONS at the stream's path", verb="OPTIONS", path="/sse", session=None, body=b"", ours=(204, "S1")
    ),
    Case("elsewhere", path="/nowhere", session=None),
    Case("a page of another origin", headers={"origin": "https://evil.example"}),
    Case("a page of this origin", headers={"origin": "http://127.0.0.1:8000"}),
    Case(
        "a page of another origin, text",
        headers={"origin": "https://evil.example", "content-type": "text/plain"},
        ours=(403, "S2"),
    ),
    Case("a page of another origin, no session", session=None, headers={"origin": "https://evil.example"}),
    Case(
        "another host and origin",
        headers={"host": "evil.example", "origin": "http://evil.example"},
        ours=(403, "S3"),
    ),
    Case("a modern revision", headers={"mcp-protocol-version": "2026-07-28"}, ours=(400, "S4")),
    Case("a revision that does not exist", headers={"mcp-protocol-version": "nope"}, ours=(400, "S4")),
    Case("the oldest revision", headers={"mcp-protocol-version": "2024-11-05"}),
    Case("Accept of something else", headers={"accept": "text/html"}),
    Case("no Accept", headers={"accept": None}),
]


@pytest.fixture(params=["open", "with auth"])
async def apps(request: pytest.FixtureRequest) -> AsyncGenerator[tuple[ASGIApp, ASGIApp, dict[str, str]]]:
    auth = request.param == "with auth"

    def server() -> MCPServer:
        return MCPServer("differences", log_level="CRITICAL", **(two_users() if auth else {}))

    reference: Any = server().sse_app(message_path="/message/")
    handler = create_handler(server(), database_url=None)
    async with lifespan(reference), lifespan(handler.app):
        yield reference, handler.app, ALICE if auth else {}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_refusals_have_the_sdks_status(
    case: Case, apps: tuple[ASGIApp, ASGIApp, dict[str, str]]
) -> None:
    reference, ours, headers = apps
    expected = await _status(reference, case, headers)
    seen = await _status(ours, case, headers)
    if case.ours is None:
        assert seen == expected
    else:
        assert (seen, expected != seen) == (case.ours[0], True)


@pytest.mark.parametrize("user", [{}, {"authorization": "Bearer bob"}, {"authorization": "Bearer mallory"}])
async def test_other_users_are_refused_with_the_sdks_status(user: dict[str, str]) -> None:
    def server() -> MCPServer:
        return MCPServer("differences", log_level="CRITICAL", **two_users())

    reference: Any = server().sse_app(message_path="/message/")
    handler = create_handler(server(), database_url=None)
    async with lifespan(reference), lifespan(handler.app):
        for case in (Case("a message"), Case("no session", session=None), Case("nobody's", session="0" * 32)):
            seen = await _status(handler.app, case, ALICE, user)
            assert seen == await _status(reference, case, ALICE, user), case.name


async def _status(
    app: ASGIApp, case: Case, headers: dict[str, str], poster: dict[str, str] | None = None
) -> int:
    """Return the status of the case's request, sent while a session of the user is live."""
    stream = SseClient(app)
    stream.always = headers
    async with stream:
        posts_to, _, live = stream.path.partition("?session_id=")
        id = live if case.session == LIVE else case.session
        sender = SseClient(app)
        sender.always = headers if poster is None else poster
        path = posts_to if case.path == "/message" else case.path
        sender.path = path + (f"?session_id={id}" if id is not None else "")
        async with sender.send(
            case.verb, case.body, **{"content-type": "application/json", **case.headers}
        ) as sent:
            await sent.begun()
            return sent.status


def test_every_difference_is_documented() -> None:
    documented = set(re.findall(r"^### (S\d+): ", DOCUMENT.read_text(), re.MULTILINE))
    assert {case.ours[1] for case in CASES if case.ours is not None} <= documented
