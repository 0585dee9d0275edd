"""HTTP+SSE, ours in two instances beside the SDK's own transport in one process, request by request."""

from __future__ import annotations

import json
import re
import uuid
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.users import two_users
from tmcp_serverless.handler import create_handler

from .everything import build_everything
from .notebook import Notebook
from .wire import Exchange, lifespan

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp.server import MCPServer

    from .wire import App

DIFFERENCES = Path(__file__).parents[2] / "docs" / "differences.md"
LIMIT_BYTES = 4 * 1024 * 1024
HOST = "127.0.0.1:8000"
NOT_COMPARED = {"HEAD", "OPTIONS"}
"""Methods that `Allow` may name: entry S1 has the reason."""

PING = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()
JSON = {"content-type": "application/json"}
INITIALIZE = {
    "protocolVersion": "2024-11-05",
    "capabilities": {},
    "clientInfo": {"name": "c", "version": "1"},
}


class Side:
    """One of the two transports, and the session that a client has open there."""

    def __init__(self, *apps: App, messages: str) -> None:
        self.apps = apps
        self.messages = messages
        self.own = ""
        self._turn = 0

    def send(self, verb: str, path: str, headers: dict[str, str | None], body: bytes = b"") -> Exchange:
        """Make a request to the next instance; `async with` it."""
        self._turn += 1
        sent = {name: value for name, value in {"host": HOST, **headers}.items() if value is not None}
        return Exchange(self.apps[self._turn % len(self.apps)], verb, headers=sent, body=body, path=path)

    async def seen(self, verb: str, path: str, headers: dict[str, str | None], body: bytes = b"") -> Any:
        """Return the status of an answer, and what else a client goes by."""
        path = path.replace("{own}", self.own).replace("{messages}", self.messages)
        async with self.send(verb, path, headers, body) as exchange:
            await exchange.until(lambda: exchange.status != 0 and (exchange.streams or exchange.body_ended))
            allowed = set(re.findall(r"\w+", exchange.headers.get("allow", ""))) - NOT_COMPARED
            return exchange.status, sorted(allowed), "www-authenticate" in exchange.headers

    @asynccontextmanager
    async def stream(self, **headers: str | None) -> AsyncGenerator[Exchange]:
        async with self.send("GET", "/sse", headers) as stream:
            await stream.until(lambda: stream.endpoint is not None)
            assert stream.endpoint is not None
            self.own = stream.endpoint
            yield stream


def official() -> MCPServer:
    return build_everything(Notebook())


def guarded() -> MCPServer:
    from mcp.server import MCPServer

    return MCPServer("guarded", log_level="ERROR", **two_users())


@asynccontextmanager
async def sides(server: Any, database_url: str) -> AsyncGenerator[tuple[Side, Side]]:
    async with AsyncExitStack() as stack:
        theirs = server().sse_app()
        await stack.enter_async_context(lifespan(theirs))
        ours: list[App] = []
        for _ in range(2):
            handler = create_handler(server(), database_url=database_url)
            stack.push_async_callback(handler.aclose)
            ours.append(handler.app)
        yield Side(_forgiving(theirs), messages="/messages/"), Side(*ours, messages="/message")


def _forgiving(app: App) -> App:
    """Return the SDK's application without the error that it raises once it has refused a stream."""

    async def forgiving(scope: Any, receive: Any, send: Any) -> None:
        with suppress(ValueError):
            await app(scope, receive, send)

    return forgiving


# The SDK's transport leaves streams of a session to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Case = tuple[str, str, dict[str, Any], bytes]

CASES: dict[str, Case] = {
    "accepted": ("POST", "{own}", JSON, PING),
    "no session id": ("POST", "{messages}", JSON, PING),
    **{
        f"session id {id!r}": ("POST", f"{{messages}}?session_id={id}", JSON, PING)
        for id in (
            "",
            "x",
            "not-a-session",
            "sse-short",
            "%00",
            "a/b",
            "\u00fc",
            "g" * 32,
            "0" * 31,
            "0" * 300,
        )
    },
    "unknown session": ("POST", f"{{messages}}?session_id={uuid.uuid4().hex}", JSON, PING),
    "unknown session with dashes": ("POST", f"{{messages}}?session_id={uuid.uuid4()}", JSON, PING),
    "another parameter": ("POST", "{own}&more=1", JSON, PING),
    "two ids, the last its own": ("POST", "{messages}?session_id=x&{query}", JSON, PING),
    "two ids, the last malformed": ("POST", "{own}&session_id=x", JSON, PING),
    **{
        f"content type {kind}": ("POST", "{own}", {"content-type": kind}, PING)
        for kind in (None, "", "text/plain", "APPLICATION/JSON", "application/json; charset=utf-8")
    },
    **{
        f"content type {kind}": ("POST", "{own}", {"content-type": kind}, PING)
        for kind in ("application/jsonp", "application/json-rpc")
    },
    "content type before the session": (
        "POST",
        "{messages}?session_id=x",
        {"content-type": "text/plain"},
        PING,
    ),
    **{
        f"{where} and {kind}, over-long": ("POST", where, {"content-type": kind}, b" " * (LIMIT_BYTES + 1))
        for where in ("{own}", "{messages}", "{messages}?session_id=x")
        for kind in ("application/json", "text/plain", None)
    },
    "declared to be over-long": ("POST", "{own}", {**JSON, "content-length": str(LIMIT_BYTES + 1)}, PING),
    "as long as allowed": ("POST", "{own}", JSON, PING.ljust(LIMIT_BYTES)),
    **{
        f"body {body!r}": ("POST", "{own}", JSON, body)
        for body in (b"", b"{", b"null", b"[]", b"1", b'"x"', b"{}", b"\xff", b'{"jsonrpc":"1.0","id":1}')
    },
    "a batch": ("POST", "{own}", JSON, b"[" + PING + b"]"),
    "an id that is none": ("POST", "{own}", JSON, b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}'),
    "a notification": ("POST", "{own}", JSON, b'{"jsonrpc":"2.0","method":"notifications/initialized"}'),
    "an answer to nothing": ("POST", "{own}", JSON, b'{"jsonrpc":"2.0","id":9,"result":{}}'),
    "a body without a session": ("POST", f"{{messages}}?session_id={uuid.uuid4().hex}", JSON, b"{"),
    **{
        f"{verb} of the messages": (verb, "{own}", {}, b"")
        for verb in ("GET", "PUT", "DELETE", "PATCH", "HEAD")
    },
    **{f"{verb} of the stream": (verb, "/sse", JSON, b"") for verb in ("POST", "PUT", "DELETE", "PATCH")},
    "HEAD of the stream": ("HEAD", "/sse", {}, b""),
    "OPTIONS of the stream": ("OPTIONS", "/sse", {}, b""),
    "OPTIONS of the messages": ("OPTIONS", "{own}", {}, b""),
    **{
        f"GET with accept {accept}": ("GET", "/sse", {"accept": accept}, b"")
        for accept in (None, "", "text/event-stream", "application/json", "text/html")
    },
    **{
        f"POST with accept {accept}": ("POST", "{own}", {**JSON, "accept": accept}, PING)
        for accept in (None, "text/html")
    },
    **{f"path {path}": ("GET", path, {}, b"") for path in ("/", "/ssex", "/SSE", "/sse/x", "/nothing")},
    "the stream's path with a slash": ("GET", "/sse/", {}, b""),
    "a path below the messages'": ("POST", "{messages}/more?{query}", JSON, PING),
    **{
        f"{what} with origin {origin}": (
            verb,
            path,
            {**JSON, "origin": origin},
            PING if verb == "POST" else b"",
        )
        for what, verb, path in (("stream", "GET", "/sse"), ("message", "POST", "{own}"))
        for origin in (
            "",
            "http://localhost:3000",
            "https://evil.example",
            "null",
            "http://127.0.0.1.evil.example",
        )
    },
    **{
        f"{what} with host {host}": (verb, path, {**JSON, "host": host}, PING if verb == "POST" else b"")
        for what, verb, path in (("stream", "GET", "/sse"), ("message", "POST", "{own}"))
        for host in (None, "localhost:8000", "[::1]:8000", "evil.example")
    },
    "a revision of another era": ("POST", "{own}", {**JSON, "mcp-protocol-version": "2026-07-28"}, PING),
    "a revision that is none": ("POST", "{own}", {**JSON, "mcp-protocol-version": "x"}, PING),
    "a later revision": ("POST", "{own}", {**JSON, "mcp-protocol-version": "2025-11-25"}, PING),
}

INTENDED: dict[str, tuple[str, tuple[Any, ...]]] = {
    **{name: ("S1", (400, [], False)) for name in ("content type application/jsonp", "an id that is none")},
    "content type application/json-rpc": ("S1", (400, [], False)),
    "a body without a session": ("S1", (400, [], False)),
    "OPTIONS of the stream": ("S1", (204, ["GET"], False)),
    "OPTIONS of the messages": ("S1", (204, ["POST"], False)),
    "the stream's path with a slash": ("S1", (200, [], False)),
    "stream with host None": ("S1", (200, [], False)),
    "stream with host evil.example": ("S1", (403, [], False)),
    "message with host None": ("S1", (202, [], False)),
    "message with host evil.example": ("S1", (202, [], False)),
    "HEAD of the stream": ("S2", (405, ["GET"], False)),
    "a path below the messages'": ("S3", (404, [], False)),
    "a revision of another era": ("S4", (400, [], False)),
    "a revision that is none": ("S4", (400, [], False)),
}
"""By a case's name: the entry of `docs/differences.md` that gives the reason, and what is seen of ours."""


async def seen_of(side: Side, case: Case) -> Any:
    verb, path, headers, body = case
    async with side.stream():
        query = side.own.partition("?")[2]
        return await side.seen(verb, path.replace("{query}", query), headers, body)


async def test_every_status_is_the_sdks_but_for_what_is_intended(database_url: str) -> None:
    differing: dict[str, Any] = {}
    async with sides(official, database_url) as (theirs, ours):
        for name, case in CASES.items():
            expected, seen = await seen_of(theirs, case), await seen_of(ours, case)
            if name in INTENDED:
                assert expected != seen, f"{name}: there is no difference any more"
                expected = INTENDED[name][1]
            if expected != seen:
                differing[name] = {"expected": expected, "seen": seen}
    assert not differing, "\n".join(f"{name}: {found}" for name, found in differing.items())


ALICE, BOB, MALLORY = ({"authorization": f"Bearer {name}"} for name in ("alice", "bob", "mallory"))


async def test_authentication_is_the_sdks(database_url: str) -> None:
    async with sides(guarded, database_url) as (theirs, ours):
        outcomes: list[list[Any]] = []
        for side in (theirs, ours):
            async with side.stream(**ALICE):
                outcomes.append(
                    [
                        await side.seen(verb, path, {**JSON, **headers}, body)
                        for verb, path, body in (
                            ("GET", "/sse", b""),
                            ("POST", "{own}", PING),
                            ("POST", "{messages}", PING),
                            ("POST", "{messages}?session_id=x", PING),
                            ("POST", "{own}", b" " * (LIMIT_BYTES + 1)),
                        )
                        for headers in ({}, MALLORY, BOB, ALICE)
                    ]
                )
        assert outcomes[0] == outcomes[1]
        assert {status for status, _, _ in outcomes[0]} == {200, 202, 400, 401, 404, 413}


CALLS: list[dict[str, Any]] = [
    {"method": "tools/list"},
    {"method": "tools/call", "params": {"name": "echo", "arguments": {"value": "x"}}},
    {"method": "tools/call", "params": {"name": "logs", "arguments": {}}},
    {
        "method": "tools/call",
        "params": {"name": "progress", "arguments": {"steps": 3}, "_meta": {"progressToken": 7}},
    },
    {"method": "tools/call", "params": {"name": "unknown", "arguments": {}}},
    {"method": "unknown"},
    {"method": "resources/read", "params": {"uri": "test://text"}},
    {"method": "ping"},
]


async def conversation(side: Side) -> tuple[list[Any], list[str]]:
    """Return all that is said on a stream, to a client that asks one thing after the other."""
    async with side.stream() as stream:

        async def ask(id: int, message: dict[str, Any]) -> None:
            body = json.dumps({"jsonrpc": "2.0", "id": id, **message}).encode()
            async with side.send("POST", side.own, dict(JSON), body) as posted:
                await posted.until(lambda: posted.body_ended)
                assert (posted.status, posted.text) == (202, "Accepted")
                await stream.until(lambda: any(each.get("id") == id for each in stream.messages))

        await ask(0, {"method": "initialize", "params": INITIALIZE})
        stream.messages[-1]["result"].pop("capabilities")  # D2
        async with side.send(
            "POST", side.own, dict(JSON), b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
        ) as said:
            await said.until(lambda: said.body_ended)
        for id, message in enumerate(CALLS, start=1):
            await ask(id, message)
        return stream.messages, stream.kinds


async def test_what_is_said_on_the_stream_is_the_sdks(database_url: str) -> None:
    async with sides(official, database_url) as (theirs, ours):
        expected, kinds = await conversation(theirs)
        assert len(expected) > len(CALLS)
        assert await conversation(ours) == (expected, kinds)


async def test_a_session_ends_with_its_stream(database_url: str) -> None:
    async with sides(official, database_url) as both:
        for side in both:
            async with side.stream():
                assert (await side.seen("POST", "{own}", dict(JSON), PING))[0] == 202
            assert (await side.seen("POST", "{own}", dict(JSON), PING))[0] == 404


def test_every_intended_difference_of_http_sse_is_documented_and_shown() -> None:
    documented = re.findall(r"^### (S\d+): ", DIFFERENCES.read_text(), re.MULTILINE)
    assert documented == sorted({entry for entry, _ in INTENDED.values()})
    assert set(INTENDED) <= set(CASES)
