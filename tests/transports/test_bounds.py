"""Bounds of a session and of a user: what one client stores has an end, and the answer says which."""

from __future__ import annotations

import base64
import json
import secrets
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.support.client import Client
from tests.support.servers import small_server
from tests.support.talkative import CAPABILITIES, Stage, talkative_server
from tmcp_serverless import (
    PostgresInfoSessionManager,
    PostgresStreamSessionManager,
    SessionManagers,
    create_handler,
)
from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.maintenance import sweep
from tmcp_serverless.sessions import SessionRecord
from tmcp_serverless.sessions.streams import INBOX_ROWS

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler, NewManagers

pytestmark = pytest.mark.anyio

RECORD = SessionRecord(protocol_version="2025-11-25", client_info={}, client_capabilities={}, principal="p")


def name_of(request_id: int) -> str:
    """Return the name of a request, as any client can write it."""
    return "r" + base64.urlsafe_b64encode(json.dumps(request_id).encode()).decode().rstrip("=")


async def test_replies_that_no_request_waits_for_are_not_stored(
    new_postgres_handler: NewHandler, database_url: str
) -> None:
    client = await Client(new_postgres_handler(small_server()).app).initialize()
    for number in range(200):
        await client.notify("notifications/cancelled", {"requestId": 500_000 + number})
        reply = {"jsonrpc": "2.0", "id": f"{name_of(900_000 + number)}.{'0' * 24}", "result": {"x": "y" * 99}}
        assert (await client.post(reply)).status == 202
    database = await asyncpg.connect(database_url)
    stored = await database.fetchval("SELECT count(*) FROM tmcp_messages WHERE mailbox LIKE '%/in.%'")
    await database.close()
    assert 0 < stored <= 64, "early cancellations of a few requests are kept"


async def test_replies_to_a_request_that_runs_have_a_bound(new_handler: NewHandler) -> None:
    stage = Stage()
    client = await Client(new_handler(talkative_server(stage)).app).initialize(capabilities=CAPABILITIES)
    call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "favourite"}}
    async with client.send("POST", call) as exchange:
        (asked,) = await exchange.count(1)
        statuses: list[int] = []
        false = {"jsonrpc": "2.0", "id": f"{name_of(7)}.{'0' * 24}", "result": {}}
        refused = await client.post(false)
        while refused.status != 429 and len(statuses) < INBOX_ROWS + 50:
            statuses.append(refused.status)
            refused = await client.post(false)
        assert refused.status == 429
        assert "TMCP_MAX_INBOX_BYTES" in refused.messages[0]["error"]["message"]
        assert refused.headers["retry-after"] == "5"
        # The session goes on with everything else.
        assert (await client.ask("ping")).status == 200
        assert asked["method"] == "elicitation/create"
        assert (await client.notify("notifications/cancelled", {"requestId": 7})).status == 202
        await exchange.whole()
    assert exchange.messages[-1]["error"]["code"] == -32800


async def test_a_session_has_so_many_subscriptions(new_managers: NewManagers) -> None:
    info = new_managers().info
    await info.initialize("s", RECORD)
    most = 1_000
    for number in range(most):
        await info.add_subscription("s", f"a://{number}")
    await info.add_subscription("s", "a://1")  # It is one of them.
    with pytest.raises(Exception, match="TMCP_MAX_SUBSCRIPTIONS"):
        await info.add_subscription("s", "a://one-more")
    await info.remove_subscription("s", "a://1")
    await info.add_subscription("s", "a://one-more")
    assert await info.get_subscriptions("a://one-more") == {"s"}
    await info.delete("s")
    assert await info.get_subscriptions("a://2") == set()


async def test_too_many_subscriptions_are_invalid_params(database_url: str) -> None:
    async with create_handler(small_server(), database_url=database_url, max_subscriptions=2) as handler:
        client = await Client(handler.app).initialize()
        answers = [await client.ask("resources/subscribe", {"uri": f"a://{n}"}) for n in range(3)]
        assert [list(each.messages[-1])[-1] for each in answers] == ["result", "result", "error"]
        error: dict[str, Any] = answers[-1].messages[-1]["error"]
        assert (error["code"], "TMCP_MAX_SUBSCRIPTIONS" in error["message"]) == (-32602, True)


def user_of(scope: Any) -> str:
    return scope["user"]


async def test_a_user_has_so_many_sessions_and_the_one_unused_for_longest_goes(
    new_handler: NewHandler,
) -> None:
    handler = new_handler(small_server(), max_sessions=3, principal=user_of)
    alice, bob = [
        [await Client(handler.app, scope={"user": user}).initialize() for _ in range(count)]
        for user, count in (("alice", 5), ("bob", 1))
    ]
    assert [(await each.ask("ping")).status for each in alice] == [404, 404, 200, 200, 200]
    assert (await bob[0].ask("ping")).status == 200


async def test_a_sweep_and_a_deletion_get_past_a_session_with_very_many_rows(database_url: str) -> None:
    info = PostgresInfoSessionManager(database_url)
    streams = PostgresStreamSessionManager(database_url)
    managers = SessionManagers(streams=streams, info=info)
    for id in ("poison", "large", *(f"other{number}" for number in range(30))):
        await info.initialize(id, RECORD)
        await streams.prepare(id)
    database = await asyncpg.connect(database_url)
    prefix = await database.fetchval("SELECT split_part(id, ':', 1) FROM tmcp_session_context LIMIT 1")
    await database.execute(
        "INSERT INTO tmcp_session_subscriptions SELECT $1, 'a://' || n FROM generate_series(1, 60000) AS n",
        f"{prefix}:poison",
    )
    await database.execute(
        "INSERT INTO tmcp_messages (mailbox, n, data) SELECT $1, n, 'x' FROM generate_series(1, 45000) AS n",
        f"{prefix}:large/out.x",
    )
    await database.execute(
        "UPDATE tmcp_session_context SET updated_at = now() - interval '3 days' WHERE id <> $1",
        f"{prefix}:large",
    )
    await info.sweep(limit=100)
    left = {row["id"] for row in await database.fetch("SELECT id FROM tmcp_session_context")}
    assert left == {f"{prefix}:poison", f"{prefix}:large"}, "the others have gone in one batch"
    swept = await sweep(managers)
    assert not swept.more
    assert await database.fetchval("SELECT count(*) FROM tmcp_session_subscriptions") == 0
    await info.delete("large")
    await streams.delete("large")
    assert await database.fetchval("SELECT count(*) FROM tmcp_messages WHERE mailbox LIKE '%large%'") == 0
    await database.close()
    await managers.aclose()


async def test_a_sweep_goes_on_though_a_batch_fails(
    new_managers: NewManagers, monkeypatch: pytest.MonkeyPatch
) -> None:
    managers = new_managers()
    for number in range(3):
        await managers.streams.send([secrets.token_hex(8)], str(number))

    async def failing(*, limit: int) -> int:
        raise StoreUnavailableError(f"{limit} rows took too long")

    swept_streams: list[int] = []

    async def noting(*, limit: int) -> int:
        swept_streams.append(limit)
        return 1 if len(swept_streams) == 1 else 0

    monkeypatch.setattr(managers.info, "sweep", failing)
    monkeypatch.setattr(managers.streams, "sweep", noting)
    swept = await sweep(managers)
    assert (swept.removed, swept.more) == (1, True)


async def test_a_message_to_very_many_sessions_goes_in_batches(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url) as streams:
        ids = [f"s{number}" for number in range(2_500)]
        await streams.send(ids, "x")
        database = await asyncpg.connect(database_url)
        rows = await database.fetchval("SELECT count(*) FROM tmcp_messages WHERE data = 'x'")
        transactions = await database.fetchval("SELECT count(DISTINCT xmin::text) FROM tmcp_messages")
        await database.close()
    assert rows == 2_500
    assert transactions == 3
