"""Clients that others wrote: FastMCP's, and `mcp-remote` between a client on stdio and the server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import mcp_types as types
import pytest
from fastmcp import Client as FastMCPClient
from fastmcp.client.elicitation import ElicitResult
from mcp import StdioServerParameters

from .node import FOLDER, packages
from .person import LIMIT_SECONDS, ROOTS, Person, text_of

if TYPE_CHECKING:
    from pathlib import Path

    from mcp import Client

    from .conftest import Conversation

MEMO = "memo://latest"
STEPS = 3


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
async def test_the_fastmcp_client_answers_what_it_is_asked(conversation: Conversation, mode: str) -> None:
    steps: list[float] = []

    async def elicit(message: str, response_type: Any, _params: Any, _context: Any) -> Any:
        if message.startswith("No"):
            return ElicitResult(action="decline")
        return response_type(sure=True, why=message)

    async def sample(
        _messages: list[types.SamplingMessage], _params: Any, _context: Any
    ) -> types.CreateMessageResult:
        said = types.TextContent(text="short")
        return types.CreateMessageResult(role="assistant", model="parrot", content=said)

    async def on_progress(progress: float, _total: float | None, _message: str | None) -> None:
        steps.append(progress)

    async with FastMCPClient(
        conversation.url,
        mode=mode,
        elicitation_handler=elicit,
        sampling_handler=sample,
        roots=[*ROOTS],
        progress_handler=on_progress,
        timeout=LIMIT_SECONDS,
    ) as client:
        told = [
            (await client.call_tool(tool, arguments)).structured_content
            for tool, arguments in [
                ("consent", {"question": "Yes?"}),
                ("consent", {"question": "No?"}),
                ("summarize", {"text": "a story"}),
                ("where", {}),
            ]
        ]
        await client.call_tool("work", {"run": uuid4().hex, "steps": STEPS, "seconds": 0.1})
    answers = ["accept: True, Yes?", "decline", "parrot: short", ROOTS]
    assert told == [{"result": answer} for answer in answers]
    assert steps == [*range(1, STEPS + 1)]


async def test_mcp_remote_bridges_a_stdio_client_to_the_server(
    conversation: Conversation, tmp_path: Path
) -> None:
    bridge = StdioServerParameters(
        command=packages(),
        args=[
            str(FOLDER / "node_modules" / "mcp-remote" / "dist" / "proxy.js"),
            conversation.url,
            "--silent",
        ],
        env={**os.environ, "MCP_REMOTE_CONFIG_DIR": str(tmp_path)},
    )
    person, run = Person(), uuid4().hex
    async with person.through(bridge) as client:
        await look_around(client)
        assert text_of(await client.call_tool("consent", {"question": "Sure?"})) == "accept: True, because"
        assert text_of(await client.call_tool("sign_in")) == "accept"
        assert text_of(await client.call_tool("summarize", {"text": "x"})) == "parrot: Summarize: x!"
        assert text_of(await client.call_tool("where")).split() == ROOTS
        arguments = {"run": f"{run} work", "steps": STEPS, "seconds": 0.1}
        await client.call_tool("work", arguments, progress_callback=ignore)
        assert person.steps() == [*range(1, STEPS + 1)]
        subscribe = types.SubscribeRequest(params=types.SubscribeRequestParams(uri=MEMO))
        await client.session.send_request(subscribe, types.EmptyResult)
        await client.call_tool("touch")
        await person.until(lambda: person.notifications("notifications/tools/list_changed"))
        await person.until(lambda: person.notifications("notifications/resources/updated"))
        async with anyio.create_task_group() as calls:
            calls.start_soon(client.call_tool, "wait", {"run": run})
            await conversation.until_written(run, "started")
            calls.cancel_scope.cancel()
        await conversation.until_written(run, "started", "cancelled")


async def look_around(client: Client) -> None:
    """List everything, and take one of each."""
    assert {tool.name for tool in (await client.list_tools()).tools} >= {"add", "consent", "touch"}
    assert text_of(await client.call_tool("add", {"a": 2, "b": 3})) == "5"
    assert [resource.uri for resource in (await client.list_resources()).resources] == [MEMO]
    [content] = (await client.read_resource(MEMO)).contents
    assert isinstance(content, types.TextResourceContents)
    assert content.text == "milk"
    assert [prompt.name for prompt in (await client.list_prompts()).prompts] == ["greet"]
    completed = await client.complete(types.PromptReference(name="greet"), {"name": "name", "value": "B"})
    assert completed.completion.values == ["Bob"]


async def ignore(progress: float, total: float | None, message: str | None) -> None:
    """Take progress: with a callback the client asks for it."""
    del progress, total, message
