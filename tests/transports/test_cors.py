"""What pages of other origins may send and see: every header that MCP has, those of later revisions too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.client import Client
from tests.support.servers import small_server
from tmcp_serverless.http import respond
from tmcp_serverless.http.cors import with_cors

if TYPE_CHECKING:
    from tests.differential.wire import Exchange
    from tests.support.fixtures import NewHandler
    from tmcp_serverless.http import Receive, Scope, Send

ORIGIN = "https://page.example"


def exposed(exchange: Exchange) -> set[str]:
    return {name.strip().lower() for name in exchange.headers["access-control-expose-headers"].split(",")}


async def test_every_mcp_header_of_an_answer_is_exposed() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await respond(send, 200, b"", [(b"Mcp-New", b"1"), (b"mcp-session-id", b"s"), (b"x-other", b"2")])

    async with Client(with_cors(app)).send("GET", origin=ORIGIN) as exchange:
        await exchange.whole()
    assert exchange.headers["mcp-new"] == "1"
    assert exposed(exchange) == {
        *("mcp-new", "mcp-session-id", "mcp-protocol-version", "last-event-id"),
        *("www-authenticate", "retry-after"),
    }


@pytest.mark.parametrize(
    "asked",
    ["mcp-session-id, mcp-protocol-version", "mcp-method, mcp-name, mcp-param-region", "last-event-id"],
)
async def test_every_mcp_header_of_a_request_passes_the_preflight(
    new_handler: NewHandler, asked: str
) -> None:
    client = Client(new_handler(small_server(), allowed_origins=ORIGIN).app)
    preflight = {
        "origin": ORIGIN,
        "access_control_request_method": "POST",
        "access_control_request_headers": asked,
    }
    async with client.send("OPTIONS", **preflight) as exchange:
        await exchange.whole()
    assert exchange.status == 200
    assert exchange.headers["access-control-allow-headers"] == asked
    assert exchange.headers["access-control-allow-origin"] == "*"


async def test_a_page_of_the_internet_may_ask_for_a_server_in_its_users_network(
    new_handler: NewHandler,
) -> None:
    client = Client(new_handler(small_server(), allowed_origins=ORIGIN).app)
    preflight = {"origin": ORIGIN, "access_control_request_method": "POST"}
    for asked in ("true", None):
        async with client.send(
            "OPTIONS", **preflight, access_control_request_private_network=asked
        ) as exchange:
            await exchange.whole()
        assert exchange.status == 200
        assert exchange.headers.get("access-control-allow-private-network") == asked


async def test_a_page_sees_its_session_and_others_see_nothing(new_handler: NewHandler) -> None:
    client = Client(new_handler(small_server(), allowed_origins=f"{ORIGIN},https://two.example").app)
    client.always = {"origin": ORIGIN}
    await client.initialize()
    pinged = await client.ask("ping")
    assert "mcp-session-id" in exposed(pinged)
    refused = await client.ask("ping", origin="https://elsewhere.example")
    assert refused.status == 403
    assert "access-control-allow-origin" not in refused.headers


async def test_without_an_origin_nothing_is_said_about_origins(new_handler: NewHandler) -> None:
    client = await Client(new_handler(small_server(), allowed_origins=ORIGIN).app).initialize()
    assert not [name for name in (await client.ask("ping")).headers if name.startswith("access-control")]
