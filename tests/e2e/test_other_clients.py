"""Clients that others wrote: FastMCP's, and `mcp-remote` between a client on stdio and the server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import mcp_types as types
from fastmcp import Client as FastMCPClient
from fastmcp.client.elicitation import ElicitResult
from mcp import StdioServerParameters

from .node import FOLDER, packages
from .person import LIMIT_SECONDS, ROOTS, Person, text_of

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Conversation

STEPS = 3


async def test_the_fastmcp_client_answers_what_it_is_asked(conversation: Conversation) -> None:
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
        mode="legacy",
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
    person = Person()
    async with person.through(bridge) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} >= {"add", "consent", "touch"}
        assert text_of(await client.call_tool("add", {"a": 2, "b": 3})) == "5"
        assert text_of(await client.call_tool("consent", {"question": "Sure?"})) == "accept: True, because"
        assert text_of(await client.call_tool("summarize", {"text": "x"})) == "parrot: Summarize: x!"
        await client.call_tool("touch")
        await person.until(lambda: person.notifications("notifications/tools/list_changed"))
