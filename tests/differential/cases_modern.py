"""The modern era (2026-07-28): requests without a session, on the same URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .client import CAPABILITIES, CLIENT_INFO, MODERN
from .interactions import interaction

if TYPE_CHECKING:
    from .client import Client
    from .interactions import Steps
    from .wire import Exchange, Seen

PREFIX = "io.modelcontextprotocol"


def asking(
    client: Client, method: str, params: dict[str, Any] | None = None, *, meta: dict[str, Any] | None = None
) -> Exchange:
    """Make a request with the envelope and the headers of the modern era; `async with` it."""
    envelope = {
        f"{PREFIX}/protocolVersion": MODERN,
        f"{PREFIX}/clientInfo": CLIENT_INFO,
        f"{PREFIX}/clientCapabilities": CAPABILITIES,
        **(meta or {}),
    }
    given = {name: value for name, value in envelope.items() if value is not None}
    params = {**(params or {}), "_meta": given}
    name = params.get("name", params.get("uri"))
    headers = {"mcp-protocol-version": MODERN, "mcp-method": method, "mcp-name": name}
    return client.start("POST", client.message(method, params), headers=headers)


async def ask(
    client: Client, method: str, params: dict[str, Any] | None = None, *, meta: dict[str, Any] | None = None
) -> Seen:
    """Make a request of the modern era and wait for its whole response."""
    async with asking(client, method, params, meta=meta) as exchange:
        return client.seen(await exchange.whole())


@interaction(opened=False)
async def modern_requests(client: Client) -> Steps:
    for method in (
        "server/discover",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
    ):
        yield method, await ask(client, method)
    yield "tool", await ask(client, "tools/call", {"name": "echo", "arguments": {"value": "x"}})
    yield "gone", await ask(client, "ping")
    yield "unknown", await ask(client, "unknown")


@interaction(opened=False)
async def modern_errors(client: Client) -> Steps:
    yield "unknown tool", await ask(client, "tools/call", {"name": "unknown", "arguments": {}})
    yield "unknown prompt", await ask(client, "prompts/get", {"name": "unknown"})
    yield "unknown resource", await ask(client, "resources/read", {"uri": "test://unknown"})
    yield "raising", await ask(client, "tools/call", {"name": "raising", "arguments": {}})
    yield "invalid params", await ask(client, "tools/call", {"arguments": {}})
    yield "no version", await ask(client, "tools/list", meta={f"{PREFIX}/protocolVersion": None})
    yield "other version", await ask(client, "tools/list", meta={f"{PREFIX}/protocolVersion": "1999-12-31"})
    yield "no capabilities", await ask(client, "tools/list", meta={f"{PREFIX}/clientCapabilities": None})
    yield "elicitation", await ask(client, "tools/call", {"name": "elicit_raw", "arguments": {}})
    headers: dict[str, str | None] = {"mcp-protocol-version": MODERN}
    yield "no envelope", await client.send("POST", client.message("tools/list"), headers=headers)
    yield "no JSON", await client.send("POST", b"{", headers=headers)
    yield "a batch", await client.send("POST", [], headers=headers)
    yield "an answer", await client.send("POST", {"jsonrpc": "2.0", "id": 1, "result": {}}, headers=headers)
    notification = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    yield "a notification", await client.send("POST", notification, headers=headers)
    yield "GET", await client.send("GET", headers=headers)
    yield "DELETE", await client.send("DELETE", headers=headers)


@interaction(opened=False)
async def modern_streams(client: Client) -> Steps:
    call = {"name": "progress", "arguments": {"steps": 3}}
    yield "progress", await ask(client, "tools/call", call, meta={"progressToken": "t"})
    yield (
        "no logs",
        await ask(client, "tools/call", {"name": "say", "arguments": {"level": "alert", "data": 1}}),
    )


@interaction()
async def modern_request_in_a_session(client: Client) -> Steps:
    yield "modern", await ask(client, "tools/list")
    yield "before", await client.request("ping")


@interaction(opened=False, kinds=("everything",))
async def modern_subscription(client: Client) -> Steps:
    wanted = {"toolsListChanged": True, "resourceSubscriptions": ["test://text"]}
    async with asking(client, "subscriptions/listen", {"notifications": wanted}) as stream:
        await stream.count(1)
        for number, what in enumerate(("prompts", "tools", "test://other", "test://text", "tools")):
            arguments = {"name": "publish", "arguments": {"what": what}}
            yield f"{number}: {what}", await ask(client, "tools/call", arguments)
        await stream.count(4)
        yield "stream", client.seen(stream)


@interaction(opened=False, kinds=("everything",))
async def modern_parameter_that_is_asked_for(client: Client) -> Steps:
    call = {"name": "resolved", "arguments": {"greeting": "hello"}}
    for answer in ({"action": "accept", "content": {"name": "Zoë"}}, {"action": "decline"}):
        async with asking(client, "tools/call", call) as exchange:
            (message,) = (await exchange.whole()).messages
        result: dict[str, Any] = message["result"]
        yield f"{answer['action']}: asked", {**result, "requestState": "<sealed>"}
        (question,) = result["inputRequests"]
        answered = {**call, "inputResponses": {question: answer}, "requestState": result["requestState"]}
        yield f"{answer['action']}: answered", await ask(client, "tools/call", answered)
    forged = {**call, "inputResponses": {}, "requestState": "forged"}
    yield "forged", await ask(client, "tools/call", forged)
