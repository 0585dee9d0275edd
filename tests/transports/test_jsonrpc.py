"""What is a JSON-RPC message, and what it says: as the SDK reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from mcp_types.jsonrpc import jsonrpc_message_adapter
from pydantic import ValidationError

from tests.support.client import Client
from tests.support.servers import small_server
from tmcp_serverless.http import Kind, classify

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
