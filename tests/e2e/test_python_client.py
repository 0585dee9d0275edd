"""The official Python client in conversation with tools that run on other instances than it speaks to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio
import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError

from .cutting import Cutter
from .person import ROOTS, YES, Person, text_of

if TYPE_CHECKING:
    from mcp import Client

    from .conftest import Conversation

MEMO = "memo://latest"
STEPS = 12
LIST_CHANGES = [f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources")]


@pytest.fixture
def run() -> str:
    """A name under which a tool writes into the diary."""
    return uuid4().hex


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (YES, "accept: True, because"),
        (types.ElicitResult(action="accept", content={"sure": False}), "accept: False, no reason"),
        (types.ElicitResult(action="decline"), "decline"),
        (types.ElicitResult(action="cancel"), "cancel"),
    ],
    ids=["yes", "no", "decline", "cancel"],
)
async def test_a_tool_asks_with_a_form_and_is_told_the_answer(
    conversation: Conversation, answer: types.ElicitResult, told: str
) -> None:
    person = Person(answer)
    async with person.at(conversation.url) as client:
        assert text_of(await client.call_tool("consent", {"question": "Sure?"})) == told
    [asked] = person.asked
    assert isinstance(asked, types.ElicitRequestFormParams)
    assert asked.message == "Sure?"
    assert asked.requested_schema["required"] == ["sure"]


@pytest.mark.parametrize("action", ["accept", "decline", "cancel"])
async def test_a_tool_sends_the_user_to_a_page(conversation: Conversation, action: str) -> None:
    person = Person(types.ElicitResult.model_validate({"action": action}))
    async with person.at(conversation.url) as client:
        assert text_of(await client.call_tool("sign_in")) == action
    [asked] = person.asked
    assert isinstance(asked, types.ElicitRequestURLParams)
    assert (asked.url, asked.elicitation_id) == ("https://example.test/sign-in", "sign-in-1")
    complete = person.notifications("notifications/elicitation/complete")
    assert complete == ([{"elicitationId": "sign-in-1"}] if action == "accept" else [])


async def test_a_tool_uses_the_clients_model(conversation: Conversation) -> None:
    async with Person().at(conversation.url) as client:
        summary = await client.call_tool("summarize", {"text": "a long story"})
        assert text_of(summary) == "parrot: Summarize: a long story!"


async def test_a_tool_asks_for_the_roots(conversation: Conversation) -> None:
    async with Person().at(conversation.url) as client:
        assert text_of(await client.call_tool("where")).split() == ROOTS


async def test_a_tool_asks_for_everything_at_once(conversation: Conversation) -> None:
    person = Person()
    person.may_answer.clear()
    async with person.at(conversation.url) as client, asyncio.TaskGroup() as group:
        call = group.create_task(client.call_tool("everything_at_once"))
        await person.until(lambda: len(person.asked) == 3)
        person.may_answer.set()
        told = text_of(await call).splitlines()
    assert told == [*["accept: True, because"] * 3, "parrot: at once!", *ROOTS]
    assert sorted(asked.message for asked in person.asked) == [f"question {number}" for number in range(3)]


async def test_two_clients_are_asked_and_each_gets_the_answer_to_its_own_call(
    conversation: Conversation,
) -> None:
    ann, bob = Person(YES), Person(types.ElicitResult(action="decline"))
    async with ann.at(conversation.url) as ann_client, bob.at(conversation.url) as bob_client:
        told = await asyncio.gather(
            *(
                client.call_tool("consent", {"question": f"{number}?"})
                for client in (ann_client, bob_client)
                for number in range(3)
            )
        )
    assert [text_of(result) for result in told] == ["accept: True, because"] * 3 + ["decline"] * 3


async def test_ping(conversation: Conversation) -> None:
    async with Person().at(conversation.url) as client:
        await ping(client)


async def test_a_tool_stops_when_its_client_cancels_the_call(conversation: Conversation, run: str) -> None:
    person = Person()
    async with person.at(conversation.url) as client:
        async with anyio.create_task_group() as calls:
            calls.start_soon(client.call_tool, "wait", {"run": run})
            await conversation.until_written(run, "started")
            calls.cancel_scope.cancel()
        await conversation.until_written(run, "started", "cancelled")
        await ping(client)


async def test_a_tool_that_waits_for_an_answer_stops_too_and_the_question_is_withdrawn(
    conversation: Conversation, run: str
) -> None:
    person = Person(answer=None)
    async with person.at(conversation.url) as client:
        async with anyio.create_task_group() as calls:
            calls.start_soon(client.call_tool, "ask_and_wait", {"run": run})
            await person.until(lambda: person.asked)
            calls.cancel_scope.cancel()
        await conversation.until_written(run, "started", "cancelled")
        await person.until(lambda: person.given_up)
        await ping(client)


async def test_a_call_that_was_cut_goes_on_and_all_it_says_arrives_once(
    conversation: Conversation, run: str
) -> None:
    person = Person()
    async with (
        Cutter(conversation.url) as cutter,
        person.at(cutter.url) as client,
        asyncio.TaskGroup() as group,
    ):
        call = group.create_task(
            client.call_tool("work", {"run": run, "steps": STEPS}, progress_callback=ignore)
        )
        await person.until(lambda: 3 in person.steps())
        await cutter.cut()
        assert text_of(await call) == f"{STEPS} steps"
        await ping(client)
    assert person.steps() == [*range(1, STEPS + 1)]
    assert len(person.answers()) == len({*person.answers()})
    assert await conversation.diary(run) == ["started", "finished"]


async def test_a_question_survives_a_cut_and_is_asked_once(conversation: Conversation) -> None:
    person = Person()
    person.may_answer.clear()
    async with (
        Cutter(conversation.url) as cutter,
        person.at(cutter.url) as client,
        asyncio.TaskGroup() as group,
    ):
        call = group.create_task(client.call_tool("consent", {"question": "Still there?"}))
        await person.until(lambda: person.asked)
        await cutter.cut()
        person.may_answer.set()
        assert text_of(await call) == "accept: True, because"
    assert len(person.asked) == 1


async def test_the_standalone_stream_that_was_cut_goes_on_and_nothing_is_lost_or_doubled(
    conversation: Conversation,
) -> None:
    person = Person()
    async with Cutter(conversation.url) as cutter, person.at(cutter.url) as client:
        await client.session.send_request(
            types.SubscribeRequest(params=types.SubscribeRequestParams(uri=MEMO)), types.EmptyResult
        )
        for touched in range(1, 5):
            await client.call_tool("touch")
            if touched == 2:  # the second one is said while nobody listens
                continue
            await person.until(lambda touched=touched: told(person) >= touched)
            if touched == 1:
                await cutter.cut()
    for method in ["notifications/resources/updated", *LIST_CHANGES]:
        assert len(person.notifications(method)) == 4, method


async def test_both_streams_are_cut_at_once(conversation: Conversation, run: str) -> None:
    person, other = Person(), Person()
    async with (
        Cutter(conversation.url) as cutter,
        person.at(cutter.url) as client,
        other.at(conversation.url) as other_client,
        asyncio.TaskGroup() as group,
    ):
        await other_client.call_tool("touch")
        await person.until(lambda: told(person) == 1)
        call = group.create_task(
            client.call_tool("work", {"run": run, "steps": STEPS}, progress_callback=ignore)
        )
        await person.until(lambda: 3 in person.steps())
        await cutter.cut()
        await other_client.call_tool("touch")
        assert text_of(await call) == f"{STEPS} steps"
        await person.until(lambda: told(person) == 2)
    assert person.steps() == [*range(1, STEPS + 1)]


async def test_a_call_whose_instance_was_killed_is_answered_with_an_error(
    conversation: Conversation, run: str
) -> None:
    person = Person()
    async with person.at(conversation.url) as client:
        call = asyncio.create_task(client.call_tool("wait", {"run": run}, progress_callback=ignore))
        await person.until(person.steps)
        for name in [*conversation.cluster.pids]:
            conversation.cluster.kill(name)
        [error] = await asyncio.gather(call, return_exceptions=True)
        assert isinstance(error, MCPError)
        assert "gone" in error.error.message
        await ping(client)
    assert await conversation.diary(run) == ["started"]


def told(person: Person) -> int:
    """Return how often everything that `touch` tells everybody has arrived."""
    return min(len(person.notifications(method)) for method in LIST_CHANGES)


async def ignore(progress: float, total: float | None, message: str | None) -> None:
    """Take progress: with a callback the client asks for it."""
    del progress, total, message


async def ping(client: Client) -> None:
    """Ping. (The client's own method warns that it is of an older revision.)"""
    await client.session.send_request(types.PingRequest(), types.EmptyResult)
