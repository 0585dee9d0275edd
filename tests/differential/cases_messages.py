"""Notifications in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .intended import at_least, done, everywhere, instead
from .interactions import HANDSHAKE, Difference, interaction

if TYPE_CHECKING:
    from .client import Client
    from .interactions import Steps

EVERYTHING = ("everything",)
LOWLEVEL = ("lowlevel",)
ODD_URIS = {
    "long": "test://" + "x" * 1900,
    "no uri at all": "no uri",
    "empty": "",
    "unicode": "test://\U0001f389/\u2028",
    "quotes": "test://'\"; --\\",
}
UNUSABLE_URIS = {"very long": "test://" + "x" * 5_000, "zero byte": "test://\x00"}
NO_SUBSCRIPTION: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": "unusable",
    "error": {"code": -32602, "message": "uri has a NUL character or is longer than 2000 bytes"},
}
LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")


# What the client notifies


@interaction()
async def notifications_from_the_client(client: Client) -> Steps:
    yield "roots changed", await client.notify("notifications/roots/list_changed")
    yield "progress", await client.notify("notifications/progress", {"progressToken": "t", "progress": 0.5})
    yield "unknown", await client.notify("notifications/unknown", {"a": 1})
    yield "not even a notification", await client.notify("whatever")
    yield "initialized again", await client.notify("notifications/initialized", {"_meta": {"a": 1}})
    # `initialized`, sent when the session was opened, is the first one.
    yield "received", await client.notebook.until("notification", 6)


@interaction(kinds=LOWLEVEL)
async def notifications_reach_their_handlers(client: Client) -> Steps:
    await client.notify("notifications/roots/list_changed", {"_meta": {"a": 1}})
    yield "roots", await client.notebook.until("roots")
    params = {"progressToken": 7, "progress": 1, "total": 2, "message": "half"}
    await client.notify("notifications/progress", params)
    yield "progress", await client.notebook.until("progress")


@interaction(kinds=LOWLEVEL)
async def handler_of_a_notification_fails(client: Client) -> Steps:
    yield "failing", await client.notify("notifications/roots/list_changed", {"_meta": {"wish": "fail"}})
    yield "next", await client.notify("notifications/roots/list_changed")
    yield "handled", await client.notebook.until("roots")


@interaction(kinds=LOWLEVEL)
async def handler_of_a_notification_speaks(client: Client) -> Steps:
    async with client.start("GET") as stream:
        await stream.begun()
        yield "roots", await client.notify("notifications/roots/list_changed", {"_meta": {"wish": "speak"}})
        await client.notebook.until("roots")
        yield "stream", await client.mark(stream)


@interaction(kinds=LOWLEVEL)
async def handler_of_a_notification_asks(client: Client) -> Steps:
    wish = {"_meta": {"wish": "ask"}}
    changed = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed", "params": wish}
    async with client.start("GET") as stream:
        await stream.begun()
        async with client.start("POST", changed) as notification:
            yield "accepted", (await notification.begun()).status
            request = (await stream.count(1))[0]
            yield "answering", await client.answer(request, result={"roots": [{"uri": "file:///new"}]})
            yield "asked", await client.notebook.until("asked")
        yield "stream", await client.mark(stream)


@interaction(kinds=LOWLEVEL)
async def malformed_notifications(client: Client) -> Steps:
    yield "no params", await client.notify("notifications/progress")
    yield (
        "wrong params",
        await client.notify("notifications/progress", {"progressToken": {}, "progress": "x"}),
    )
    yield "wrong cancel", await client.notify("notifications/cancelled", {"requestId": [1]})
    yield "empty cancel", await client.notify("notifications/cancelled", {})
    await client.notify("notifications/progress", {"progressToken": 7, "progress": 1})
    yield "handled", await client.notebook.until("progress")


@interaction()
async def cancel_unknown_requests(client: Client) -> Steps:
    for id in (99, "99", "unknown", -1):
        params = {"requestId": id, "reason": "why not"}
        yield repr(id), await client.notify("notifications/cancelled", params)
    yield "afterwards", await client.request("ping")


@interaction()
async def answers_to_unknown_requests(client: Client) -> Steps:
    for id in (1, 99, "x", "0/1", ""):
        yield f"result {id!r}", await client.answer({"id": id}, result={})
    yield "error", await client.answer({"id": 99}, error={"code": -1, "message": "no"})
    yield "error without id", await client.answer({"id": None}, error={"code": -1, "message": "no"})
    yield "afterwards", await client.request("ping")


# What the server says in a POST's response


@interaction(versions=HANDSHAKE)
async def progress(client: Client) -> Steps:
    for token in ("t", "", 0, -1, 7, 2**53):
        params = {"name": "progress", "arguments": {"steps": 3}, "_meta": {"progressToken": token}}
        yield repr(token), await client.request("tools/call", params)
    yield "no token", await client.call("progress", steps=3)
    params = {"name": "progress", "arguments": {"steps": 1}, "_meta": {"progressToken": True}}
    yield "True", await client.request("tools/call", params)


@interaction()
async def long_progress(client: Client) -> Steps:
    params = {"name": "progress", "arguments": {"steps": 200}, "_meta": {"progressToken": "many"}}
    yield "200 steps", await client.request("tools/call", params)


@interaction(versions=HANDSHAKE)
async def logs_in_the_response(client: Client) -> Steps:
    yield "logs", await client.call("logs")


@interaction(
    Difference("D2", "logs at warning", at_least("warning")),
    Difference("D2", "logs at emergency", at_least("emergency")),
    kinds=LOWLEVEL,
)
async def logs_after_set_level(client: Client) -> Steps:
    for level in ("warning", "emergency", "debug"):
        await client.request("logging/setLevel", {"level": level})
        yield f"logs at {level}", await client.call("logs")
    yield "handled", client.notebook.about("level")


@interaction(
    Difference("D2", "set", done(1)),
    Difference("D2", "logs", at_least("error")),
    kinds=EVERYTHING,
)
async def logs_after_set_level_of_mcpserver(client: Client) -> Steps:
    yield "set", await client.request("logging/setLevel", {"level": "error"})
    yield "logs", await client.call("logs")


@interaction(versions=HANDSHAKE)
async def changes_in_the_response(client: Client) -> Steps:
    for what in ("tools", "prompts", "resources", "test://text"):
        yield what, await client.call("changed", what=what, alone=False)


@interaction()
async def messages_arrive_before_the_end(client: Client) -> Steps:
    async with client.calling("gate", name="g") as exchange:
        yield "while it waits", (await exchange.count(1))[:]
        client.notebook.gate("g").set()
        yield "all", client.seen(await exchange.whole())


# What the server says on the standalone stream


@interaction(versions=HANDSHAKE)
async def logs_on_the_standalone_stream(client: Client) -> Steps:
    async with client.start("GET") as stream:
        await stream.begun()
        for level in LEVELS:
            yield level, await client.call("say", level=level, data={"at": level})
        yield "stream", await client.mark(stream)


@interaction(versions=HANDSHAKE)
async def list_changes_on_the_standalone_stream(client: Client) -> Steps:
    async with client.start("GET") as stream:
        await stream.begun()
        for what in ("tools", "prompts", "resources"):
            yield what, await client.call("changed", what=what)
        yield "stream", await client.mark(stream)


@interaction()
async def resource_update_without_subscription(client: Client) -> Steps:
    async with client.start("GET") as stream:
        await stream.begun()
        yield "call", await client.call("changed", what="test://text")
        yield "stream", await client.mark(stream)


@interaction(kinds=LOWLEVEL, versions=HANDSHAKE)
async def resource_update_with_subscription(client: Client) -> Steps:
    yield "subscribe", await client.request("resources/subscribe", {"uri": "test://text"})
    async with client.start("GET") as stream:
        await stream.begun()
        yield "call", await client.call("changed", what="test://text")
        yield "other resource", await client.call("changed", what="test://other")
        yield "unsubscribe", await client.request("resources/unsubscribe", {"uri": "test://text"})
        yield "call again", await client.call("changed", what="test://text")
        yield "stream", await client.mark(stream)


@interaction(
    Difference("D2", "set", done(1), kinds=EVERYTHING),
    Difference("D2", "stream", at_least("error")),
)
async def log_level_of_the_standalone_stream(client: Client) -> Steps:
    yield "set", await client.request("logging/setLevel", {"level": "error"})
    async with client.start("GET") as stream:
        await stream.begun()
        for level in LEVELS:
            yield level, await client.call("say", level=level, data=level)
        yield "stream", await client.mark(stream)


@interaction(
    *(
        Difference("D2", name, done(number), kinds=EVERYTHING)
        for number, name in enumerate(ODD_URIS, start=1)
    ),
    *everywhere("D15", UNUSABLE_URIS, instead({"status": 200, "messages": [NO_SUBSCRIPTION]})),
)
async def odd_subscriptions(client: Client) -> Steps:
    for name, uri in ODD_URIS.items():
        yield name, await client.request("resources/subscribe", {"uri": uri})
    for name, uri in UNUSABLE_URIS.items():
        yield name, await client.request("resources/subscribe", {"uri": uri}, id="unusable")


@interaction()
async def each_message_on_its_own_stream(client: Client) -> Steps:
    async with client.start("GET") as stream:
        await stream.begun()
        yield "response", await client.call("chatter", count=20)
        yield "stream", await client.mark(stream)


@interaction()
async def standalone_messages_are_the_sessions_own(client: Client) -> Steps:
    other = client.other()
    await other.open()
    async with client.start("GET") as stream, other.start("GET") as other_stream:
        await stream.begun()
        await other_stream.begun()
        await client.call("say", level="alert", data="for the first")
        await other.call("say", level="alert", data="for the second")
        yield "first", await client.mark(stream)
        yield "second", await other.mark(other_stream)


@interaction()
async def large_message_on_the_standalone_stream(client: Client) -> Steps:
    async with client.start("GET") as stream:
        await stream.begun()
        for size in (200_000, 2_000_000):
            await client.call("say", level="alert", data="x" * size)
        await client.call("say", level="alert", data="\u2028 \u0000 \r\n\n data: \U0001f389")
        yield "stream", await client.mark(stream)


@interaction()
async def many_messages_on_the_standalone_stream(client: Client) -> Steps:
    async with client.start("GET") as stream:
        await stream.begun()
        yield "response", await client.call("chatter", count=200)
        yield "stream", await client.mark(stream)


@interaction()
async def messages_after_the_response(client: Client) -> Steps:
    async with client.start("GET") as stream:
        await stream.begun()
        yield "response", await client.call("late", name="g")
        client.notebook.gate("g").set()
        await stream.count(1)
        yield "stream", await client.mark(stream)
