"""The official Python client in each of its modes; above all the modern era, each request elsewhere."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import mcp_types as types
import pytest
from mcp.client.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    SubscriptionLost,
    ToolsListChanged,
)

from tests.support.clusters import kill_all

from .person import ROOTS, YES, Person, text_of

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from mcp import Client
    from mcp.client.subscriptions import Subscription

    from .conftest import Conversation

MODERN = "2026-07-28"
MEMO = "memo://latest"
STEPS = 4
EVERYTHING_CHANGED = {ToolsListChanged(), PromptsListChanged(), ResourcesListChanged(), ResourceUpdated(MEMO)}

every_mode = pytest.mark.parametrize("mode", ["legacy", "auto", MODERN])
modern_modes = pytest.mark.parametrize("mode", ["auto", MODERN])


@every_mode
async def test_the_mode_decides_how_a_conversation_begins(conversation: Conversation, mode: str) -> None:
    person = Person()
    async with person.noting(conversation.url, mode=mode) as client:
        await client.list_tools()
        info, offered = client.server_info, client.server_capabilities
        assert client.protocol_version == ("2025-11-25" if mode == "legacy" else MODERN)
    first = {"legacy": "initialize", "auto": "server/discover", MODERN: "tools/list"}
    assert person.served[0][0] == first[mode]
    if mode == MODERN:  # Nobody was asked: the client takes the server's word for the revision alone.
        return
    assert info is not None
    assert info.name == "conversation"
    assert offered.tools is not None
    assert offered.tools.list_changed
    assert offered.resources is not None
    assert offered.resources.subscribe


@every_mode
async def test_there_is_one_of_each(conversation: Conversation, mode: str) -> None:
    person = Person()
    async with person.noting(conversation.url, mode=mode) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} >= {"add", "meet", "work"}
        assert text_of(await client.call_tool("add", {"a": 2, "b": 3})) == "5"
        assert [resource.uri for resource in (await client.list_resources()).resources] == [MEMO]
        [content] = (await client.read_resource(MEMO)).contents
        assert isinstance(content, types.TextResourceContents)
        assert content.text == "milk"
        assert [prompt.name for prompt in (await client.list_prompts()).prompts] == ["greet"]
        [message] = (await client.get_prompt("greet", {"name": "Bob"})).messages
        assert message.content == types.TextContent(text="Say hello to Bob.")
        reference = types.PromptReference(name="greet")
        completed = await client.complete(reference, {"name": "name", "value": "An"})
        assert completed.completion.values == ["Ann", "Anton"]
    assert len({instance for _, instance in person.served}) >= 3


@every_mode
async def test_a_call_reports_its_progress(conversation: Conversation, mode: str) -> None:
    person = Person()
    arguments = {"run": uuid4().hex, "steps": STEPS, "seconds": 0.2}
    async with person.noting(conversation.url, mode=mode) as client:
        told = await client.call_tool("work", arguments, progress_callback=ignore)
        assert text_of(told) == f"{STEPS} steps"
    assert person.steps() == [*range(1, STEPS + 1)]


@modern_modes
async def test_logs_come_to_who_asks_for_them_at_the_level_asked_for(
    conversation: Conversation, mode: str
) -> None:
    person = Person()
    async with person.noting(conversation.url, mode=mode, log_level="info") as client:
        await client.call_tool("talk")
    assert [params["data"] for params in person.notifications("notifications/message")] == ["middle", "high"]
    silent = Person()
    async with silent.noting(conversation.url, mode=mode) as client:
        await client.call_tool("talk")
    assert silent.notifications("notifications/message") == []


ASKED: list[tuple[str, dict[str, Any], str]] = [
    ("consent", {"question": "Sure?"}, "accept: True, because"),
    ("meet", {"whom": "Bob"}, "Bob: True, because"),
    ("sign_in", {}, "accept"),
    ("summarize", {"text": "a story"}, "parrot: Summarize: a story!"),
    ("where", {}, "\n".join(ROOTS)),
    (
        "everything_at_once",
        {},
        "\n".join([*["accept: True, because"] * 3, "parrot: at once!", *ROOTS]),
    ),
]


@every_mode
@pytest.mark.parametrize(("tool", "arguments", "told"), ASKED, ids=[tool for tool, _, _ in ASKED])
async def test_the_same_tool_asks_in_every_mode(
    conversation: Conversation, mode: str, tool: str, arguments: dict[str, Any], told: str
) -> None:
    person = Person()
    async with person.noting(conversation.url, mode=mode) as client:
        assert text_of(await client.call_tool(tool, arguments)) == told
    rounds = person.instances("tools/call")
    if mode != "legacy":
        assert len(rounds) >= 2
        assert all(one != other for one, other in pairwise(rounds))


@every_mode
@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_refusal_reaches_the_tool_in_every_mode(
    conversation: Conversation, mode: str, action: str
) -> None:
    person = Person(types.ElicitResult.model_validate({"action": action}))
    async with person.noting(conversation.url, mode=mode) as client:
        assert text_of(await client.call_tool("consent", {"question": "Sure?"})) == action


async def test_people_of_both_eras_are_asked_at_once(conversation: Conversation) -> None:
    people = [(Person(), mode) for mode in ("legacy", "auto", MODERN)]

    async def asked(person: Person, mode: str) -> str:
        person.answer = YES if mode == "auto" else types.ElicitResult(action="decline")
        async with person.noting(conversation.url, mode=mode) as client:
            return text_of(await client.call_tool("consent", {"question": mode}))

    told = await asyncio.gather(*(asked(person, mode) for person, mode in people))
    assert told == ["decline", "accept: True, because", "decline"]
    assert [[each.message for each in person.asked] for person, _ in people] == [
        ["legacy"],
        ["auto"],
        [MODERN],
    ]


# Subscriptions


@modern_modes
@pytest.mark.parametrize("tool", ["publish", "touch"])
async def test_a_listen_stream_hears_what_a_call_on_another_instance_changes(
    conversation: Conversation, mode: str, tool: str
) -> None:
    """`publish` says it as the SDK has it, `touch` by the handler's notifier."""
    ann, bob = Person(), Person()
    async with (
        ann.noting(conversation.url, mode=mode) as hearing,
        bob.noting(conversation.url, mode=mode) as calling,
        to_everything(hearing) as changes,
    ):
        assert changes.honored.resource_subscriptions == [MEMO]
        for _ in range(3):
            await calling.call_tool(tool)
            assert {await anext(changes) for _ in EVERYTHING_CHANGED} == EVERYTHING_CHANGED
    assert {*bob.instances("tools/call")} - {*ann.instances("subscriptions/listen")}


@modern_modes
async def test_a_listen_stream_hears_nothing_that_was_not_asked_for(
    conversation: Conversation, mode: str
) -> None:
    person = Person()
    async with (
        person.noting(conversation.url, mode=mode) as client,
        client.listen(prompts_list_changed=True) as changes,
    ):
        for _ in range(2):
            await client.call_tool("touch")
            assert await anext(changes) == PromptsListChanged()
    heard = {message.method for message in person.heard if isinstance(message, types.JSONRPCNotification)}
    assert heard == {
        "notifications/subscriptions/acknowledged",
        "notifications/prompts/list_changed",
    }


async def test_the_client_listens_again_when_the_instance_of_its_stream_has_died(
    conversation: Conversation,
) -> None:
    person = Person()
    async with person.noting(conversation.url, mode="auto") as client:
        async with to_everything(client) as changes:
            await kill_all(conversation.cluster)
            with pytest.raises(SubscriptionLost):
                await anext(changes)
        async with to_everything(client) as changes:
            await client.call_tool("touch")
            assert await anext(changes) in EVERYTHING_CHANGED


# Cancellation


@modern_modes
async def test_a_call_that_its_client_gives_up_is_stopped(conversation: Conversation, mode: str) -> None:
    run = uuid4().hex
    person = Person()
    async with person.noting(conversation.url, mode=mode) as client:
        async with anyio.create_task_group() as calls:
            calls.start_soon(client.call_tool, "wait", {"run": run})
            await conversation.until_written(run, "started")
            calls.cancel_scope.cancel()
        await conversation.until_written(run, "started", "cancelled")
        assert text_of(await client.call_tool("add", {"a": 1, "b": 1})) == "2"
    assert "notifications/cancelled" not in {method for method, _ in person.served}


async def test_a_client_that_is_closed_leaves_nothing_running(conversation: Conversation) -> None:
    run = uuid4().hex
    async with Person().noting(conversation.url, mode="auto") as client:
        call = asyncio.create_task(client.call_tool("wait", {"run": run}))
        await conversation.until_written(run, "started")
    await asyncio.gather(call, return_exceptions=True)
    await conversation.until_written(run, "started", "cancelled")


def to_everything(client: Client) -> AbstractAsyncContextManager[Subscription]:
    """Listen to all that can be heard."""
    return client.listen(
        tools_list_changed=True,
        prompts_list_changed=True,
        resources_list_changed=True,
        resource_subscriptions=[MEMO],
    )


async def ignore(progress: float, total: float | None, message: str | None) -> None:
    """Take progress: with a callback the client asks for it."""
    del progress, total, message
