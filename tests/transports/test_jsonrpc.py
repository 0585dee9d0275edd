"""What is a JSON-RPC message, and what it says: as the SDK reads it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server import MCPServer
from mcp_types.jsonrpc import jsonrpc_message_adapter
from pydantic import ValidationError

from tests.support.client import Client
from tests.support.modern import ModernClient
from tests.support.servers import small_server
from tmcp_serverless.http import LONGEST_URI, HttpOptions, HttpProblem, Kind, classify, parse

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler


def question(answer: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": "q", **answer}


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ({"result": {}, "error": None}, {"result": {}}),
        ({"result": {}, "method": None, "params": None}, {"result": {}}),
        ({"result": {}, "method": 5, "more": 1}, {"result": {}}),
        ({"result": None, "error": {"code": -1, "message": "no"}}, {"error": {"code": -1, "message": "no"}}),
        ({"error": {"code": -1.0, "message": "no"}}, {"error": {"code": -1, "message": "no"}}),
        ({"error": {"code": "-1", "message": ""}}, {"error": {"code": -1, "message": ""}}),
        (
            {"result": {}, "error": {"code": 1, "message": "no", "data": [1]}},
            {"error": {"code": 1, "message": "no", "data": [1]}},
        ),
        ({"result": {}, "error": {"code": 1.5, "message": "no"}}, {"result": {}}),
    ],
)
def test_an_answer_is_read_as_the_sdk_reads_it(sent: dict[str, Any], meant: dict[str, Any]) -> None:
    assert classify(question(sent)) == (Kind.RESPONSE, question(meant))
    read = jsonrpc_message_adapter.validate_python(question(sent))
    assert read.model_dump(exclude_unset=True) == question(meant)


@pytest.mark.parametrize(
    "message",
    [
        question({"method": None}),
        question({"error": None}),
        question({"error": {"code": 1.5, "message": "no"}}),
        question({"error": {"code": None, "message": "no"}}),
        question({"error": {"code": 1}}),
        {"jsonrpc": "2.0", "error": {"code": 1, "message": "no"}},
        {"jsonrpc": "2.0", "id": None, "result": {}},
        {"jsonrpc": "2.0", "id": True, "error": {"code": 1, "message": "no"}},
    ],
)
async def test_what_is_no_message_is_400_as_with_the_sdk(
    new_handler: NewHandler, message: dict[str, Any]
) -> None:
    client = await Client(new_handler(small_server()).app).initialize()
    refused = await client.post(message)
    assert (refused.status, refused.messages[0]["error"]["code"]) == (400, -32602)
    with pytest.raises(ValidationError):
        jsonrpc_message_adapter.validate_python(message)


FEW = HttpOptions(max_body_values=100)


@pytest.mark.parametrize(
    "value",
    [
        [1] * 99,
        {str(number): 1 for number in range(49)},
        "," * 1_000,
        ["a,b:[{" * 50, '"' * 50, "\\" * 51, '\\",[' * 50, "\n,\u00fc:" * 50],
        {"a,b": {'"[{': ["\\\\,"] * 20}},
        "x" * 200_000,
    ],
    ids=["numbers", "members", "commas", "texts", "nested", "long"],
)
async def test_a_body_with_as_many_values_as_may_be_is_read_as_it_is(value: Any) -> None:
    for form in (json.dumps(value), json.dumps(value, ensure_ascii=False, separators=(",", ":"))):
        assert await parse(form.encode(), FEW) == value


@pytest.mark.parametrize(
    "body",
    [
        json.dumps([1] * 102).encode(),
        json.dumps([[]] * 60).encode(),
        json.dumps([""] * 102).encode(),
        json.dumps({str(number): 1 for number in range(60)}).encode(),
        json.dumps(['"', *[1] * 102]).encode(),
        json.dumps(["\\", *[1] * 102]).encode(),
        json.dumps(['\\"', *[1] * 102]).encode(),
        json.dumps(['"', *[1] * 102]).encode("utf-16-le"),
        b"[" * 150,
    ],
    ids=[
        "numbers", "lists", "texts", "members", "quote", "backslash", "both", "utf-16", "brackets",
    ],
)  # fmt: skip
async def test_a_body_with_more_values_is_413_before_it_is_parsed(body: bytes) -> None:
    with pytest.raises(HttpProblem, match=r"at most 100 JSON values .* TMCP_MAX_BODY_VALUES") as raised:
        await parse(body, FEW)
    assert raised.value.status == 413


async def test_the_number_of_values_is_a_setting_in_both_eras(new_handler: NewHandler) -> None:
    app = new_handler(small_server(), max_body_values=200).app
    client, modern = await Client(app).initialize(), ModernClient(app)
    for more, status in ((100, 200), (300, 413)):
        arguments = {"text": "a", "more": [1] * more}
        assert (await client.ask("tools/call", {"name": "echo", "arguments": arguments})).status == status
        asked = {"name": "echo", "arguments": arguments}
        assert (await modern.ask("tools/call", asked)).status == status


async def test_the_length_of_a_batch_is_a_setting(new_handler: NewHandler) -> None:
    client = await Client(new_handler(small_server(), max_batch=2).app, version="2025-03-26").initialize()
    pings = [{"jsonrpc": "2.0", "id": number, "method": "ping"} for number in range(3)]
    assert (await client.post(pings[:2])).status == 200
    refused = await client.post(pings)
    assert refused.status == 400
    assert "at most 2 are accepted" in refused.messages[0]["error"]["message"]


@pytest.mark.parametrize("method", ["resources/read", "resources/subscribe", "completion/complete"])
async def test_a_long_uri_is_an_invalid_parameter_in_both_eras(new_handler: NewHandler, method: str) -> None:
    app = new_handler(small_server()).app
    client, modern = await Client(app).initialize(), ModernClient(app)
    uri = "note://" + "x" * LONGEST_URI
    params: dict[str, Any] = {"uri": uri}
    if method == "completion/complete":
        params = {"ref": {"type": "ref/resource", "uri": uri}, "argument": {"name": "a", "value": "b"}}
    for asked in (await client.ask(method, params), await modern.ask(method, params)):
        error = asked.messages[-1]["error"]
        assert (error["code"], f"longer than {LONGEST_URI}" in error["message"]) == (-32602, True)


async def test_others_are_served_between_the_messages_of_a_batch(new_handler: NewHandler) -> None:
    server, turns, seen = MCPServer("busy", log_level="ERROR"), [0], list[int]()

    @server.tool()
    async def busy() -> str:
        seen.append(turns[0])
        return "done"

    async def other() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    client = await Client(new_handler(server).app, version="2025-03-26").initialize()
    call = {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "busy", "arguments": {}}}
    await client.post([{**call, "id": 0}])
    seen.clear()
    running = asyncio.create_task(other())
    await client.post([{**call, "id": number} for number in range(20)])
    running.cancel()
    assert len(set(seen)) == 20
