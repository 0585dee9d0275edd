"""Requests that the server makes, the answers to them, and cancellation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .interactions import HANDSHAKE, interaction

if TYPE_CHECKING:
    from .client import Client
    from .interactions import Steps

EVERYTHING = ("everything",)


# What the server asks


@interaction(versions=("2025-06-18", "2025-11-25"))
async def elicitation(client: Client) -> Steps:
    answers: list[dict[str, Any]] = [
        {"action": "accept", "content": {"name": "Zoë"}},
        {"action": "decline"},
        {"action": "cancel"},
    ]
    for answer in answers:
        async with client.calling("elicit_raw") as exchange:
            request = (await exchange.count(1))[0]
            yield f"answering {answer['action']}", await client.answer(request, result=answer)
            yield answer["action"], client.seen(await exchange.whole())


@interaction()
async def large_answer(client: Client) -> Steps:
    async with client.calling("elicit_raw") as exchange:
        content = {"name": "x" * 1_000_000, "other": "\u2028\x00\U0001f389"}
        await client.answer((await exchange.count(1))[0], result={"action": "accept", "content": content})
        yield "response", client.seen(await exchange.whole())


@interaction()
async def several_questions_at_once(client: Client) -> Steps:
    async with client.calling("elicit_many", count=3) as exchange:
        for request in reversed((await exchange.count(3))[:]):
            content = {"name": f"answer to {request['params']['message']}"}
            await client.answer(request, result={"action": "accept", "content": content})
        yield "response", client.seen(await exchange.whole())


@interaction()
async def questions_of_two_calls_at_once(client: Client) -> Steps:
    async with client.calling("elicit_raw") as first:
        first_request = (await first.count(1))[0]
        async with client.calling("elicit_raw") as second:
            second_request = (await second.count(1))[0]
            await client.answer(second_request, result={"action": "accept", "content": {"name": "second"}})
            yield "second", client.seen(await second.whole())
        await client.answer(first_request, result={"action": "accept", "content": {"name": "first"}})
        yield "first", client.seen(await first.whole())


@interaction()
async def questions_of_two_sessions_at_once(client: Client) -> Steps:
    other = client.other()
    await other.open()
    async with client.calling("elicit_raw") as first, other.calling("elicit_raw") as second:
        first_request = (await first.count(1))[0]
        second_request = (await second.count(1))[0]
        await other.answer(second_request, result={"action": "accept", "content": {"name": "second"}})
        await client.answer(first_request, result={"action": "accept", "content": {"name": "first"}})
        yield "first", client.seen(await first.whole())
        yield "second", other.seen(await second.whole())


@interaction()
async def question_that_nobody_answers(client: Client) -> Steps:
    yield "response", await client.call("elicit_impatiently")


@interaction()
async def progress_of_an_answer(client: Client) -> Steps:
    async with client.calling("elicit_with_progress") as exchange:
        request = (await exchange.count(1))[0]
        token = request["params"]["_meta"]["progressToken"]
        await client.notify("notifications/progress", {"progressToken": token, "progress": 1, "total": 2})
        await client.notify(
            "notifications/progress", {"progressToken": token, "progress": 2, "message": "done"}
        )
        yield "heard", await client.notebook.until("heard", 2)
        await client.answer(request, result={"action": "decline"})
        yield "response", client.seen(await exchange.whole())


@interaction(kinds=EVERYTHING)
async def elicitation_with_a_model(client: Client) -> Steps:
    answers: list[dict[str, Any]] = [
        {"action": "accept", "content": {"name": "Zoë"}},
        {"action": "accept", "content": {"name": 5}},
        {"action": "accept"},
        {"action": "decline"},
    ]
    for answer in answers:
        async with client.calling("elicit") as exchange:
            await client.answer((await exchange.count(1))[0], result=answer)
            yield str(answer), client.seen(await exchange.whole())


@interaction(opened=False)
async def questions_beyond_the_clients_capabilities(client: Client) -> Steps:
    await client.initialize(capabilities={})
    await client.notify("notifications/initialized")
    async with client.calling("elicit_raw") as exchange:
        await client.answer(
            (await exchange.count(1))[0], error={"code": -32601, "message": "Method not found"}
        )
        yield "elicitation", client.seen(await exchange.whole())
    async with client.start("GET") as stream:
        await stream.begun()
        async with client.calling("roots") as exchange:
            await client.answer(
                (await stream.count(1))[0], error={"code": -32601, "message": "Method not found"}
            )
            yield "roots", client.seen(await exchange.whole())


@interaction()
async def answers_with_errors(client: Client) -> Steps:
    errors: list[dict[str, Any]] = [
        {"code": -32601, "message": "Method not found"},
        {"code": -1, "message": "the user left", "data": {"a": [1]}},
    ]
    for error in errors:
        async with client.calling("elicit_raw") as exchange:
            await client.answer((await exchange.count(1))[0], error=error)
            yield error["message"], client.seen(await exchange.whole())


@interaction()
async def answers_that_are_wrong(client: Client) -> Steps:
    answers: list[dict[str, Any]] = [
        {},
        {"action": "unknown"},
        {"action": "accept", "content": {"name": {"a": 1}}},
    ]
    for answer in answers:
        async with client.calling("elicit_raw") as exchange:
            await client.answer((await exchange.count(1))[0], result=answer)
            yield str(answer), client.seen(await exchange.whole())


@interaction()
async def answer_given_twice(client: Client) -> Steps:
    async with client.calling("elicit_raw") as exchange:
        request = (await exchange.count(1))[0]
        yield "first", await client.answer(request, result={"action": "decline"})
        yield "second", await client.answer(request, result={"action": "cancel"})
        yield "response", client.seen(await exchange.whole())
        yield "late", await client.answer(request, result={"action": "cancel"})


@interaction()
async def answer_from_another_session(client: Client) -> Steps:
    other = client.other()
    await other.open()
    async with client.calling("elicit_raw") as exchange:
        request = (await exchange.count(1))[0]
        yield "wrong session", await other.answer(request, result={"action": "cancel"})
        yield "right session", await client.answer(request, result={"action": "decline"})
        yield "response", client.seen(await exchange.whole())


@interaction(kinds=EVERYTHING, versions=("2025-06-18", "2025-11-25"))
async def parameter_that_is_asked_for(client: Client) -> Steps:
    for answer in ({"action": "accept", "content": {"name": "Zoë"}}, {"action": "decline"}):
        async with client.calling("resolved", greeting="hello") as exchange:
            await client.answer((await exchange.count(1))[0], result=answer)
            yield str(answer), client.seen(await exchange.whole())


@interaction(kinds=EVERYTHING)
async def elicitation_by_url(client: Client) -> Steps:
    async with client.calling("elicit_url") as exchange:
        await client.answer((await exchange.count(1))[0], result={"action": "accept"})
        yield "response", client.seen(await exchange.whole())


@interaction()
async def elicitation_on_the_standalone_stream(client: Client) -> Steps:
    async with client.start("GET") as stream:
        await stream.begun()
        async with client.calling("elicit_raw", alone=True) as exchange:
            request = (await stream.count(1))[0]
            yield "answering", await client.answer(request, result={"action": "decline"})
            yield "response", client.seen(await exchange.whole())
        yield "stream", await client.mark(stream)


@interaction(versions=HANDSHAKE)
async def sampling(client: Client) -> Steps:
    answer = {"role": "assistant", "model": "m", "content": {"type": "text", "text": "Because."}}
    async with client.start("GET") as stream:
        await stream.begun()
        async with client.calling("sample") as exchange:
            yield "answering", await client.answer((await stream.count(1))[0], result=answer)
            yield "response", client.seen(await exchange.whole())
        yield "stream", await client.mark(stream)


@interaction(versions=HANDSHAKE)
async def roots(client: Client) -> Steps:
    answer = {"roots": [{"uri": "file:///a", "name": "a"}, {"uri": "file:///b"}]}
    async with client.start("GET") as stream:
        await stream.begun()
        async with client.calling("roots") as exchange:
            yield "answering", await client.answer((await stream.count(1))[0], result=answer)
            yield "response", client.seen(await exchange.whole())
        yield "stream", await client.mark(stream)


@interaction(versions=HANDSHAKE)
async def ping_from_the_server(client: Client) -> Steps:
    async with client.start("GET") as stream:
        await stream.begun()
        async with client.calling("ping_client") as exchange:
            yield "answering", await client.answer((await stream.count(1))[0], result={})
            yield "response", client.seen(await exchange.whole())
        yield "stream", await client.mark(stream)


@interaction()
async def answers_with_members_that_are_null(client: Client) -> Steps:
    result: dict[str, Any] = {"result": {"action": "decline"}}
    error: dict[str, Any] = {"error": {"code": -1, "message": "the user left"}}
    answers: list[dict[str, Any]] = [
        {**result, "error": None},
        {**result, "method": None, "params": None},
        {**result, "method": 5},
        {**error, "result": None},
        {**error, **result},
    ]
    for answer in answers:
        async with client.calling("elicit_raw") as exchange:
            request = (await exchange.count(1))[0]
            yield f"answering {answer}", await client.answer(request, **answer)
            yield str(answer), client.seen(await exchange.whole())


@interaction()
async def answers_with_odd_error_codes(client: Client) -> Steps:
    for code in (-1.0, "-1", " 7 ", True, 10**30):
        async with client.calling("elicit_raw") as exchange:
            error = {"code": code, "message": "", "data": None, "more": 1}
            yield f"answering {code!r}", await client.answer((await exchange.count(1))[0], error=error)
            yield repr(code), client.seen(await exchange.whole())


# Cancellation


@interaction()
async def cancel_by_the_id_as_another_type(client: Client) -> Steps:
    for id, other in ((7, "7"), ("8", 8)):
        body = client.message("tools/call", {"name": "gate", "arguments": {"name": "g"}}, id=id)
        async with client.start("POST", body) as exchange:
            await exchange.count(1)
            yield (
                f"notification {other!r}",
                await client.notify("notifications/cancelled", {"requestId": other}),
            )
            yield f"response {id!r}", client.seen(await exchange.whole())


@interaction(versions=HANDSHAKE)
async def cancel(client: Client) -> Steps:
    body = client.message("tools/call", {"name": "forever", "arguments": {}}, id="endless")
    async with client.start("POST", body) as exchange:
        await client.notebook.until("started")
        params = {"requestId": "endless", "reason": "enough"}
        yield "notification", await client.notify("notifications/cancelled", params)
        yield "response", client.seen(await exchange.whole())
        yield "the tool was cancelled", await client.notebook.until("cancelled")
    yield "afterwards", await client.request("ping")


@interaction()
async def cancel_after_messages(client: Client) -> Steps:
    body = client.message("tools/call", {"name": "gate", "arguments": {"name": "g"}}, id=7)
    async with client.start("POST", body) as exchange:
        await exchange.count(1)
        await client.notebook.until("waiting")
        yield "notification", await client.notify("notifications/cancelled", {"requestId": 7})
        yield "response", client.seen(await exchange.whole())


@interaction()
async def cancel_while_asking(client: Client) -> Steps:
    body = client.message("tools/call", {"name": "elicit_raw", "arguments": {}}, id=7)
    async with client.start("POST", body) as exchange:
        request = (await exchange.count(1))[0]
        yield "notification", await client.notify("notifications/cancelled", {"requestId": 7})
        yield "response", client.seen(await exchange.whole())
        yield "late answer", await client.answer(request, result={"action": "decline"})


@interaction()
async def cancel_finished_request(client: Client) -> Steps:
    yield "call", await client.request("ping", id=5)
    yield "notification", await client.notify("notifications/cancelled", {"requestId": 5})
    yield "the id again", await client.request("ping", id=5)


@interaction()
async def cancel_from_another_session(client: Client) -> Steps:
    other = client.other()
    await other.open()
    body = client.message("tools/call", {"name": "gate", "arguments": {"name": "g"}}, id=7)
    async with client.start("POST", body) as exchange:
        await exchange.count(1)
        yield "notification", await other.notify("notifications/cancelled", {"requestId": 7})
        yield "ping", await other.request("ping")
        client.notebook.gate("g").set()
        yield "response", client.seen(await exchange.whole())


@interaction()
async def disconnect_is_no_cancellation(client: Client) -> Steps:
    async with client.calling("gate", name="g") as exchange:
        await exchange.count(1)
        exchange.leave()
        yield "meanwhile", await client.request("ping")
        client.notebook.gate("g").set()
        yield "it went on", await client.notebook.until("through")
    yield "afterwards", await client.request("ping")
