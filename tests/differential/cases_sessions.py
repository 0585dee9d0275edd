"""Sessions, their standalone stream, and requests that run at the same time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from .intended import ADVERTISED, advertised, everywhere, instead, message_first, message_last, refused
from .interactions import HANDSHAKE, Difference, interaction

if TYPE_CHECKING:
    from .client import Client
    from .interactions import Steps
    from .wire import Exchange

AT_ONCE = 10
OK = 200
ODD_IDS = ("", "x", -1, 2**53)
CANCELLED: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "error": {"code": -32800, "message": "Request cancelled"},
}
WRONG_EVENT_IDS = ("nonsense", "0", "1-1")


def log(data: str) -> dict[str, Any]:
    """Return a log message as the tool `say` sends it."""
    return {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "alert", "data": data}}


@interaction(opened=False)
async def requests_before_initialized(client: Client) -> Steps:
    await client.initialize()
    yield "ping", await client.request("ping")
    yield "tools/list", await client.request("tools/list")
    yield "a tool", await client.call("echo", value="x")
    yield "unknown", await client.request("unknown")


@interaction(opened=False)
async def ping_before_initialize(client: Client) -> Steps:
    yield "ping", await client.request("ping")


@interaction(ADVERTISED)
async def initialize_again_on_the_session(client: Client) -> Steps:
    before = client.session
    yield "initialize", await client.initialize(clientInfo={"name": "second", "version": "2"})
    yield "same session", client.session == before
    yield "client", await client.call("about_client")


@interaction(ADVERTISED)
async def initialize_again_at_another_version(client: Client) -> Steps:
    yield "initialize", await client.initialize(protocolVersion="2025-03-26")
    yield "version", await client.call("about_request")


@interaction(*everywhere("D2", ("first", "second"), advertised), opened=False)
async def initialize_twice_without_session(client: Client) -> Steps:
    other = client.other()
    yield "first", await client.initialize()
    yield "second", await other.initialize()
    yield "two sessions", client.session != other.session
    yield "first works", await client.request("ping")
    yield "second works", await other.request("ping")


@interaction(opened=False)
async def invalid_initialize(client: Client) -> Steps:
    for params in (None, {}, {"protocolVersion": "2025-11-25"}, {"protocolVersion": 3, "capabilities": {}}):
        yield f"{params}", await client.request("initialize", params)
    yield "wrong info", await client.initialize(clientInfo={"name": "x"})
    yield "wrong capabilities", await client.initialize(capabilities=[])


@interaction(*everywhere("D2", map(repr, ODD_IDS), advertised), opened=False)
async def initialize_with_odd_ids(client: Client) -> Steps:
    params = {
        "protocolVersion": client.version,
        "capabilities": {},
        "clientInfo": {"name": "a", "version": "b"},
    }
    for id in ODD_IDS:
        yield repr(id), await client.request("initialize", params, id=id)
    yield "as a notification", await client.notify("initialize", params)


@interaction(versions=HANDSHAKE)
async def delete(client: Client) -> Steps:
    yield "DELETE", await client.send("DELETE")
    yield "again", await client.send("DELETE")
    yield "POST", await client.request("ping")
    yield "notification", await client.notify("notifications/initialized")
    yield "answer", await client.answer({"id": 1}, result={})
    yield "GET", await client.send("GET")
    yield "initialize", await client.initialize()


@interaction()
async def delete_ends_the_standalone_stream(client: Client) -> Steps:
    async with client.start("GET") as stream:
        await stream.begun()
        yield "DELETE", await client.send("DELETE")
        yield "stream", client.seen(await stream.whole())


@interaction(Difference("D16", "response", message_last(CANCELLED)))
async def delete_in_mid_request(client: Client) -> Steps:
    async with client.calling("gate", name="g") as exchange:
        await exchange.count(1)
        yield "DELETE", await client.send("DELETE")
        yield "response", client.seen(await exchange.whole())


@interaction()
async def delete_is_for_one_session(client: Client) -> Steps:
    other = client.other()
    await other.open()
    yield "DELETE", await client.send("DELETE")
    yield "other", await other.request("ping")
    yield "deleted", await client.request("ping")


@interaction(
    Difference("D5", "second", instead({"status": 200, "messages": []})),
)
async def second_standalone_stream(client: Client) -> Steps:
    async with client.start("GET") as first:
        await first.begun()
        async with client.start("GET") as second:
            yield "second", client.seen(await second.begun())
            taken_over = second.status == OK
            yield "the first stays open", not first.ended
            yield "stream", await client.mark(second if taken_over else first)


@interaction()
async def ten_standalone_streams(client: Client) -> Steps:
    async with contextlib.AsyncExitStack() as stack:
        streams: list[tuple[Client, Exchange]] = []
        for _ in range(AT_ONCE):
            other = client.other()
            await other.open()
            stream = await stack.enter_async_context(other.start("GET"))
            streams.append((other, await stream.begun()))
        for number, (other, stream) in enumerate(streams):
            yield f"stream {number}", await other.mark(stream, f"for {number}")


@interaction(ADVERTISED)
async def initialize_again_beside_the_stream(client: Client) -> Steps:
    async with client.start("GET") as stream:
        await stream.begun()
        await client.mark(stream, "before")
        yield "initialize", await client.initialize()
        yield "stream", await client.mark(stream, "after")


@interaction()
async def delete_leaves_other_streams_alone(client: Client) -> Steps:
    other = client.other()
    await other.open()
    async with client.start("GET") as stream, other.start("GET") as deleted:
        await stream.begun()
        await deleted.begun()
        yield "DELETE", await other.send("DELETE")
        yield "deleted", other.seen(await deleted.whole())
        yield "stream", await client.mark(stream)


@interaction()
async def standalone_stream_again(client: Client) -> Steps:
    async with client.start("GET") as stream:
        await stream.begun()
        yield "first", await client.mark(stream, "one")
    async with client.start("GET") as stream:
        await stream.begun()
        yield "second", await client.mark(stream, "two")


@interaction(Difference("D6", "stream", message_first(log("nobody listens"))))
async def messages_while_no_stream_is_open(client: Client) -> Steps:
    yield "call", await client.call("say", level="alert", data="nobody listens")
    async with client.start("GET") as stream:
        await stream.begun()
        yield "stream", await client.mark(stream)


@interaction(Difference("D6", "second", message_first(log("in between"))))
async def messages_between_two_streams(client: Client) -> Steps:
    async with client.start("GET") as stream:
        await stream.begun()
        yield "first", await client.mark(stream, "one")
    yield "call", await client.call("say", level="alert", data="in between")
    async with client.start("GET") as stream:
        await stream.begun()
        yield "second", await client.mark(stream, "two")


@interaction(
    *(
        Difference(
            "D14", id, instead(refused(400, f"Invalid Last-Event-ID: not a cursor of this stream: '{id}'"))
        )
        for id in WRONG_EVENT_IDS
    )
)
async def get_with_unknown_event_id(client: Client) -> Steps:
    for id in WRONG_EVENT_IDS:
        yield id, await client.send("GET", headers={"last-event-id": id})


@interaction()
async def standalone_stream_before_initialized(client: Client) -> Steps:
    other = client.other()
    await other.initialize()
    async with other.start("GET") as stream:
        yield "status", (await stream.begun()).status
        yield "stream", await other.mark(stream)


@interaction()
async def ten_at_once(client: Client) -> Steps:
    seen = await asyncio.gather(*(client.call("rendezvous", size=AT_ONCE) for _ in range(AT_ONCE)))
    for number, each in enumerate(seen):
        yield f"call {number}", each


@interaction()
async def ten_streams_at_once(client: Client) -> Steps:
    async def call(id: int) -> object:
        params = {"name": "progress", "arguments": {"steps": 5}, "_meta": {"progressToken": f"token {id}"}}
        return await client.request("tools/call", params, id=id)

    for number, each in enumerate(await asyncio.gather(*(call(id) for id in range(AT_ONCE)))):
        yield f"call {number}", each


@interaction()
async def same_ids_in_two_sessions(client: Client) -> Steps:
    other = client.other()
    await other.open()
    params = {"name": "gate", "arguments": {"name": "g"}}
    async with (
        client.start("POST", client.message("tools/call", params, id=7)) as first,
        other.start("POST", client.message("tools/call", params, id=7)) as second,
    ):
        await client.notebook.until("waiting", 2)
        client.notebook.gate("g").set()
        yield "first", client.seen(await first.whole())
        yield "second", other.seen(await second.whole())


@interaction()
async def same_id_one_after_the_other(client: Client) -> Steps:
    for number in range(3):
        yield f"call {number}", await client.request("ping", id="same")


@interaction()
async def number_and_text_ids_that_look_alike(client: Client) -> Steps:
    for id in (7, "7"):
        params = {"name": "gate", "arguments": {"name": repr(id)}}
        async with client.start("POST", client.message("tools/call", params, id=id)) as exchange:
            await exchange.count(1)
            client.notebook.gate(repr(id)).set()
            yield repr(id), client.seen(await exchange.whole())


@interaction()
async def quick_request_beside_a_slow_one(client: Client) -> Steps:
    async with client.calling("gate", name="g") as exchange:
        await exchange.count(1)
        yield "quick", await client.call("echo", value="quick")
        client.notebook.gate("g").set()
        yield "slow", client.seen(await exchange.whole())


@interaction()
async def middleware_sees_the_requests(client: Client) -> Steps:
    await client.request("ping")
    await client.call("echo", value="x")
    await client.request("unknown")
    seen = [(entry["method"], entry["params"]) for entry in client.notebook.about("request")]
    yield "requests", seen
