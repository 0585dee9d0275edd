"""Event streams as the strictest of the deployed clients read them; rules F3, G3, H1."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken

from tests.readers.rules import READERS, BrokenError, Java
from tests.support.client import Client
from tests.support.modern import ModernClient
from tests.support.talkative import Stage, talkative_server
from tmcp_serverless import PLATFORM_EXTENSION, Platform
from tmcp_serverless.handshake.stream_reader import StreamReader
from tmcp_serverless.http import sse

if TYPE_CHECKING:
    from tests.differential.wire import Exchange
    from tests.readers.rules import Rules
    from tests.support.fixtures import NewHandler

VERSIONS = ["2025-03-26", "2025-06-18", "2025-11-25"]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def calling(client: Client, tool: str) -> Exchange:
    params: dict[str, Any] = {"name": tool, "arguments": {}, "_meta": {"progressToken": 1}}
    return client.send("POST", {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params})


def fields(raw: bytes) -> list[str]:
    """Return the names of the fields, in their order; a comment's is empty."""
    return [line.partition(":")[0] for line in raw.decode().split("\n") if line]


def short_lived(seconds: float, *, streams: bool = True) -> dict[str, Any]:
    """Return what a host says that ends its invocation so many seconds after its streams."""
    return {
        "extensions": {PLATFORM_EXTENSION: Platform(streams=streams, deadline=time.monotonic() + 2 + seconds)}
    }


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_ends_because_it_is_over_has_no_retry(
    new_handler: NewHandler, stage: Stage, version: str
) -> None:
    stage.go_on.set()
    client = await Client(new_handler(talkative_server(stage)).app, version=version).initialize()
    async with calling(client, "wait") as exchange:
        await exchange.whole()
    assert "retry" not in fields(exchange.raw)
    async with client.listen() as stream:
        await stream.begun()
        await client.call("change")
        await stream.count(1)
        await client.delete()
        await stream.whole()
    assert set(fields(stream.raw)) <= {"", "id", "event", "data"}


@pytest.mark.parametrize("milliseconds", [0, 1234])
@pytest.mark.parametrize("ended_by", ["tool", "time", "draining"])
async def test_what_ends_early_says_retry_last_or_not_at_all(
    new_handler: NewHandler, stage: Stage, milliseconds: int, ended_by: str
) -> None:
    options: dict[str, Any] = {"stream_max_seconds": 0.5} if ended_by == "time" else {}
    handler = new_handler(
        talkative_server(stage), retry_milliseconds=milliseconds, defer_seconds=0.1, **options
    )
    client = await Client(handler.app).initialize()
    async with (
        client.listen() as stream,
        calling(client, "let_go" if ended_by == "tool" else "wait") as exchange,
    ):
        await stream.until(lambda: bool(stream.ids))
        await exchange.count(1)
        if ended_by == "tool":
            await client.call("part")
        elif ended_by == "draining":
            await handler.drain()
        await stream.whole()
        await exchange.until(lambda: exchange.body_ended)
        stage.go_on.set()
    for raw in (stream.raw, exchange.raw):
        assert fields(raw).count("retry") == (1 if milliseconds else 0)
        assert not milliseconds or raw.endswith(b"retry: 1234\n\n")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("delivered", ["as it comes", "whole"])
async def test_every_connection_of_an_idle_stream_brings_a_new_id(
    new_handler: NewHandler, stage: Stage, version: str, delivered: str
) -> None:
    scope = short_lived(60, streams=delivered != "whole")
    options = {"stream_max_seconds": 0.1, "buffered_wait_seconds": 0.1}
    app = new_handler(talkative_server(stage), **options).app
    client = await Client(app, version=version, scope=scope).initialize()
    seen: list[str] = []
    for _ in range(8):
        async with client.listen(last_event_id=seen[-1] if seen else None) as stream:
            await stream.whole()
        assert stream.ids
        assert not set(stream.ids) & set(seen)
        seen += stream.ids
        for message in stream.messages:
            assert (message["method"], version < "2025-11-25") == ("ping", True)
            posted = await client.post({"jsonrpc": "2.0", "id": message["id"], "result": {}})
            assert posted.status == 202
    async with client.listen(last_event_id=seen[-1]) as stream:
        await stream.begun()
        await client.call("change")
        await stream.whole()
    told = [each for each in stream.messages if each["method"] != "ping"]
    assert [each["method"] for each in told] == ["notifications/tools/list_changed"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_clients_before_2025_11_25_get_no_event_without_data(
    new_handler: NewHandler, stage: Stage, version: str
) -> None:
    app = new_handler(talkative_server(stage), stream_max_seconds=0.1).app
    client = await Client(app, version=version).initialize()
    async with client.listen() as stream:
        await stream.whole()
    assert (b"data: \n" in stream.raw) == (version >= "2025-11-25")
    assert all(b"data: {" in event for event in stream.raw.split(b"\n\n") if b"event: message" in event)


@pytest.mark.parametrize("options", [{"replay": False, "stream_max_seconds": 0.1}, {}], ids=["no ids", "ids"])
async def test_a_host_without_a_deadline_ends_no_stream_that_cannot_go_on(
    new_handler: NewHandler, stage: Stage, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StreamReader, "look_seconds", 0.05)
    client = await Client(new_handler(talkative_server(stage), **options).app).initialize()
    async with client.listen() as stream:
        await stream.until(lambda: stream.comments > 20)
        assert not stream.ended
        assert bool(stream.ids) == options.get("replay", True)


async def test_a_host_without_a_deadline_ends_no_listen_stream(new_handler: NewHandler, stage: Stage) -> None:
    handler = new_handler(talkative_server(stage), stream_max_seconds=0.1)
    legacy = await Client(handler.app).initialize()
    async with ModernClient(handler.app).listen(toolsListChanged=True) as stream:
        await stream.count(1)
        for _ in range(3):  # Each of them is as long as the listen stream could be.
            async with legacy.listen() as other:
                await other.whole()
        await handler.notifier.tools_changed()
        await stream.count(2)
        assert not stream.ended


async def test_a_stream_ends_with_the_token_that_it_was_opened_with(
    new_handler: NewHandler, stage: Stage
) -> None:
    token = AccessToken(token="t", client_id="c", scopes=[], expires_at=int(time.time()) + 2)
    scope = {"user": AuthenticatedUser(token)}
    app = new_handler(talkative_server(stage)).app
    client = await Client(app, scope=scope).initialize()
    async with (
        client.listen() as stream,
        ModernClient(app, scope=scope).listen(toolsListChanged=True) as listening,
    ):
        await stream.whole()
        await listening.whole()


AWKWARD = [
    "a\u2028b",
    "a\u2029b",
    "a\x85b",
    "a\nb",
    "a\rb",
    "a\r\n\r\nb",
    "data: x",
    "\x0b\x0c\x1c",
    "żółć 🦆",
    "\\u2028",
]


def read(rules: Rules, frames: bytes) -> list[Any]:
    """Return the messages that a client reads from the frames."""
    messages = []
    for line in frames.decode().split("\n")[:-1]:
        event = rules.line(line)
        if event is not None and (message := rules.message(event)) is not None:
            messages.append(message)
    return messages


@pytest.mark.parametrize("rules", READERS)
@pytest.mark.parametrize("text", AWKWARD)
def test_every_reader_reads_what_was_said(rules: type[Rules], text: str) -> None:
    message = {"jsonrpc": "2.0", "method": "x", "params": {"text": text}}
    dumped = json.dumps(message, ensure_ascii=False).encode()
    spread = json.dumps(message, ensure_ascii=False, indent=1).encode()
    frames = sse.priming("1@00000000") + sse.KEEP_ALIVE + sse.event(dumped, id="1") + sse.event(spread)
    assert read(rules(), frames + sse.KEEP_ALIVE) == [message, message]


@pytest.mark.parametrize("rules", READERS)
def test_every_reader_stays_on_a_stream_on_which_nothing_is_said_for_long(rules: type[Rules]) -> None:
    reader = rules()
    assert read(reader, sse.priming("1@00000000") + sse.KEEP_ALIVE * 10_000) == []
    assert read(reader, sse.event(b"{}", id="2")) == [{}]


def test_retry_breaks_the_java_client_and_the_doubles_know_it() -> None:
    with pytest.raises(BrokenError):
        read(Java(), sse.retry(1000))
    assert sse.retry(0) == b""
