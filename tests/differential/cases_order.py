"""Messages that are sent side by side: they arrive in the order in which they were begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .interactions import HANDSHAKE, interaction

if TYPE_CHECKING:
    from .client import Client
    from .interactions import Steps

EVERYTHING = ("everything",)
NAMED = {"action": "accept", "content": {"name": "A"}}


@interaction(kinds=EVERYTHING, versions=HANDSHAKE)
async def progress_that_nobody_awaits(client: Client) -> Steps:
    params = {"name": "progress_unawaited", "arguments": {"steps": 8}, "_meta": {"progressToken": "t"}}
    yield "first", await client.request("tools/call", params)
    yield "again", await client.request("tools/call", params)


@interaction(kinds=EVERYTHING, versions=HANDSHAKE)
async def logs_at_once_in_the_response(client: Client) -> Steps:
    yield "call", await client.call("logs_at_once", count=12, alone=False)


@interaction(kinds=EVERYTHING, versions=HANDSHAKE)
async def logs_at_once_on_the_standalone_stream(client: Client) -> Steps:
    async with client.start("GET") as stream:
        await stream.begun()
        yield "call", await client.call("logs_at_once", count=12, alone=True)
        yield "stream", await client.mark(stream)


@interaction(kinds=EVERYTHING, versions=HANDSHAKE)
async def calls_that_log_at_once(client: Client) -> Steps:
    async with client.start("GET") as stream:
        await stream.begun()
        for number in range(3):
            yield f"call {number}", await client.call("logs_at_once", count=4, alone=True)
            yield f"in the response {number}", await client.call("logs_at_once", count=4, alone=False)
        yield "stream", await client.mark(stream)


@interaction(kinds=EVERYTHING, versions=HANDSHAKE)
async def question_and_logs_at_once_in_the_response(client: Client) -> Steps:
    async with client.calling("ask_and_log_at_once", count=3, alone=False) as call:
        messages = await call.count(4)
        yield "so far", client.seen(call)["messages"]
        question = next(message for message in messages if "id" in message)
        yield "answer", await client.answer(question, result=NAMED)
        yield "all", client.seen(await call.whole())


@interaction(kinds=EVERYTHING, versions=HANDSHAKE)
async def question_and_logs_at_once_on_the_standalone_stream(client: Client) -> Steps:
    async with client.start("GET") as stream:
        await stream.begun()
        async with client.calling("ask_and_log_at_once", count=3, alone=True) as call:
            messages = await stream.count(4)
            yield "so far", client.seen(stream)["messages"]
            question = next(message for message in messages if "id" in message)
            yield "answer", await client.answer(question, result=NAMED)
            yield "all", client.seen(await call.whole())
