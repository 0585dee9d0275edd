"""FastMCP's client against a FastMCP server, in each of its modes, through instances that take turns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx2
import mcp_types as types
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from mcp.client.subscriptions import ResourceUpdated, ToolsListChanged, listen

from tests.support.fast_server import NOTE
from tmcp_serverless.dev.cluster import Cluster
from tmcp_serverless.testing.postgres import create_database_sync

from .person import LIMIT_SECONDS, ROOTS

if TYPE_CHECKING:
    from collections.abc import Generator

    from fastmcp.client.logging import LogMessage

MODERN = "2026-07-28"
SERVER = f"{Path(__file__).with_name('fastmcp_talking_server.py')}:handler"
INSTANCES = 3

every_mode = pytest.mark.parametrize("mode", ["legacy", "auto", MODERN])
modern_modes = pytest.mark.parametrize("mode", ["auto", MODERN])


@pytest.fixture(scope="module", params=[False, True], ids=["remembering", "amnesia"])
def url(request: pytest.FixtureRequest, postgres_url: str) -> Generator[str]:
    database_url = create_database_sync(postgres_url, f"fastmcp_{uuid4().hex}")
    with Cluster(SERVER, instances=INSTANCES, database_url=database_url, amnesia=request.param) as cluster:
        yield f"{cluster.url}/mcp"


class Guest:
    """Who sits in front of FastMCP's client, with a note of everything that happens there."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.logs: list[Any] = []
        self.steps: list[tuple[float, float | None]] = []
        self.served: list[tuple[str, str]] = []

    def at(self, url: str, mode: str) -> Client[Any]:
        return Client(
            StreamableHttpTransport(url, httpx_client_factory=self._http),
            mode=mode,
            elicitation_handler=self._elicit,
            sampling_handler=self._sample,
            roots=[*ROOTS],
            log_handler=self._log,
            progress_handler=self._progress,
            timeout=LIMIT_SECONDS,
        )

    def instances(self, method: str) -> list[str]:
        """Return the instances that answered such requests, in order."""
        return [instance for asked, instance in self.served if asked == method]

    def _http(
        self,
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
        **options: Any,
    ) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            headers=headers,
            timeout=timeout,
            auth=auth,
            event_hooks={"response": [self._note]},
            **options,
        )

    async def _note(self, response: httpx2.Response) -> None:
        if response.request.method == "POST":
            asked = json.loads(response.request.content).get("method", "answer")
            self.served.append((asked, response.headers["x-tmcp-instance"]))

    async def _elicit(self, message: str, response_type: Any, _params: Any, _context: Any) -> Any:
        self.asked.append(message)
        return response_type(value="salad" if message == "Which dish?" else False)

    async def _sample(self, *_: Any) -> types.CreateMessageResult:
        said = types.TextContent(text="birch")
        return types.CreateMessageResult(role="assistant", model="parrot", content=said)

    async def _log(self, message: LogMessage) -> None:
        self.logs.append((message.level, message.data["msg"]))

    async def _progress(self, progress: float, total: float | None, _message: str | None) -> None:
        self.steps.append((progress, total))


@every_mode
async def test_there_is_one_of_each(url: str, mode: str) -> None:
    guest = Guest()
    async with guest.at(url, mode) as client:
        tools = {tool.name for tool in await client.list_tools()}
        assert tools >= {"add", "order", "touch"}
        assert "secret" not in tools  # A middleware of the server's keeps it back.
        assert (await client.call_tool("add", {"a": 1, "b": 2})).data == 21
        assert (await client.call_tool("database")).data == "connection 1"
        assert [str(resource.uri) for resource in await client.list_resources()] == [NOTE]
        [content] = await client.read_resource(NOTE)
        assert isinstance(content, types.TextResourceContents)
        assert content.text == "the note"
    begin = {"legacy": "initialize", "auto": "server/discover", MODERN: "tools/list"}
    assert guest.served[0][0] == begin[mode]
    assert len({instance for _, instance in guest.served}) >= INSTANCES


@every_mode
async def test_a_call_reports_its_progress_and_logs(url: str, mode: str) -> None:
    guest = Guest()
    async with guest.at(url, mode) as client:
        assert (await client.call_tool("talk")).data == "done"
    assert (guest.logs, guest.steps) == ([("info", "halfway")], [(1, 2)])


@every_mode
async def test_the_same_tool_asks_in_every_mode(url: str, mode: str) -> None:
    guest = Guest()
    async with guest.at(url, mode) as client:
        assert (await client.call_tool("order")).data == "accept: salad, False"
        assert (await client.call_tool("compose")).data == f"birch at {ROOTS[0]}"
    assert guest.asked == ["Which dish?", "Hot salad?"]
    if mode != "legacy":
        assert len(guest.instances("tools/call")) == 6  # Three rounds each: two questions, and the result.
        assert len({*guest.instances("tools/call")}) >= INSTANCES


@modern_modes
async def test_a_listen_stream_hears_what_a_call_on_another_instance_changes(url: str, mode: str) -> None:
    """FastMCP's client has no method for it; the SDK's function takes its session."""
    ann, bob = Guest(), Guest()
    async with (
        ann.at(url, mode) as hearing,
        bob.at(url, mode) as calling,
        listen(hearing.session, tools_list_changed=True, resource_subscriptions=[NOTE]) as changes,
    ):
        for _ in range(3):
            await calling.call_tool("touch")
            assert {await anext(changes), await anext(changes)} == {ToolsListChanged(), ResourceUpdated(NOTE)}
    assert {*bob.instances("tools/call")} - {*ann.instances("subscriptions/listen")}
