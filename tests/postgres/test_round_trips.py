"""Statements that a stream costs, counted on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.wire import wire
from tests.support.client import Client
from tests.support.talkative import Stage, talkative_server
from tmcp_serverless import PostgresStreamSessionManager, create_handler
from tmcp_serverless.testing.contracts import RecordingController

if TYPE_CHECKING:
    from benchmarks.wire import Wire


def statements(counts: Wire, *words: str) -> list[str]:
    """Return the statements that have all of these words."""
    return [text for _, text in counts.executed if all(word in text for word in words)]


async def test_each_event_of_a_streamed_post_is_stored_in_one_statement_and_the_first_one_too(
    database_url: str,
) -> None:
    stage = Stage()
    async with (
        wire(database_url) as counts,
        create_handler(talkative_server(stage), database_url=counts.url) as handler,
    ):
        client = await Client(handler.app, version="2025-11-25").initialize()
        await client.call("log")
        counts.reset()
        params = {"name": "wait", "arguments": {}, "_meta": {"progressToken": "p"}}
        request = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
        async with client.send("POST", request) as exchange:
            await exchange.count(1)
            stored = statements(counts, "tmcp_messages", "INSERT INTO")
            stage.go_on.set()
            await exchange.whole()
    assert len(exchange.ids) == 4, "the priming event, two notifications and the answer"
    assert len(stored) == 2, "the priming event and the first notification"


@pytest.mark.parametrize(("ids", "listens"), [(["s"], 1), (["s", "t"], 2), (["s/in.1"], 1)])
async def test_a_stream_listens_to_all_of_its_channels_in_one_statement(
    database_url: str, ids: list[str], listens: int
) -> None:
    async with (
        wire(database_url) as counts,
        PostgresStreamSessionManager(counts.url, doorbell="listen") as streams,
    ):
        await streams.check()
        counts.reset()
        for id in ids:
            await streams.create(id, RecordingController())
        assert counts.listens == listens


async def test_a_message_for_both_eras_is_two_statements(database_url: str) -> None:
    async with (
        wire(database_url) as counts,
        create_handler(talkative_server(Stage()), database_url=counts.url) as handler,
    ):
        await handler.managers.check()
        await handler.notifier.tools_changed()
        counts.reset()
        await handler.notifier.tools_changed()
        assert counts.round_trips == 2
