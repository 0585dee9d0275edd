"""Namespaces: two servers on one database, the same ids in both, and nothing of the one in the other."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.support.fixtures import postgres_managers
from tmcp_serverless import (
    CloseReason,
    ConfigurationError,
    Database,
    PostgresInfoSessionManager,
    PostgresStreamSessionManager,
    PostgresSubscriptionBus,
    SessionManagers,
    SessionRecord,
)
from tmcp_serverless.postgres import sweeping
from tmcp_serverless.postgres.identifiers import Namespace
from tmcp_serverless.postgres.operate.overview import list_namespaces, list_sessions, namespaces_of
from tmcp_serverless.testing.contracts import RecordingController

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

RECORD = SessionRecord(
    protocol_version="2025-11-25",
    client_info={"name": "c", "version": "1"},
    client_capabilities={"roots": {}},
)

ODD = (
    "a",
    "a:b",
    "a/b",
    "a;b",
    "a%3Ab",
    " a ",
    "Größe \N{PILE OF POO}",
    "it's",
    '"quoted"',
    "back\\slash",
    "{events}",
    "{no}",
    "$1",
    "%s",
    "--",
    "/broadcast",
    "/events",
    ":",
    "e" * 128,
    "\N{PILE OF POO}" * 128,
)


async def execute(dsn: str, sql: str, *args: Any) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(sql, *args)
    finally:
        await connection.close()


@pytest.fixture(params=["listen", "poll"])
async def red_and_blue(
    database_url: str, request: pytest.FixtureRequest
) -> AsyncGenerator[tuple[SessionManagers, SessionManagers]]:
    def of(name: str) -> SessionManagers:
        return postgres_managers(
            database_url, streams={"namespace": name, "doorbell": request.param}, info={"namespace": name}
        )

    async with of("red") as red, of("blue") as blue:
        yield red, blue


async def test_streams_of_the_same_id_hear_their_own_namespace_alone(
    red_and_blue: tuple[SessionManagers, SessionManagers],
) -> None:
    red, blue = (managers.streams for managers in red_and_blue)
    heard = RecordingController(), RecordingController()
    for streams, controller in zip((red, blue), heard, strict=True):
        await streams.prepare("s")
        await streams.create("s", controller)
    for streams, color in ((red, "red"), (blue, "blue")):
        await streams.send(["s"], f"{color} one")
        await streams.send(["s", "other"], f"{color} two")
        await streams.send(None, f"{color} all")
        assert await streams.append("s", f"{color} appended") is not None
        assert await streams.append("s", f"{color} delivered", create=False) is not None
    for controller, color in zip(heard, ("red", "blue"), strict=True):
        assert sorted(await controller.count(5)) == sorted(
            f"{color} {what}" for what in ("one", "two", "all", "appended", "delivered")
        )
        assert controller.closed is None


async def test_streams_end_in_their_own_namespace_alone(
    red_and_blue: tuple[SessionManagers, SessionManagers],
) -> None:
    red, blue = (managers.streams for managers in red_and_blue)
    kept = RecordingController()
    await blue.create("s", kept)
    await blue.create("s/in.1", RecordingController())
    assert not await red.has("s")
    assert await red.append("s", "x", create=False) is None
    for end in (red.release, red.delete):
        lost = RecordingController()
        await red.create("s", lost)
        await end("s")
        assert await lost.end() in (CloseReason.INTERRUPTED, CloseReason.DELETED)
    again = RecordingController()
    await red.create("s", again)
    await red.release("s", again)
    await red.release("s", kept)
    assert await blue.has("s")
    assert await blue.has("s/in.1")
    await blue.send(["s"], "still")
    assert await kept.count(1) == ["still"]
    assert kept.closed is None


async def test_what_is_published_is_heard_by_those_who_watch_in_its_namespace_alone(
    red_and_blue: tuple[SessionManagers, SessionManagers],
) -> None:
    red, blue = (managers.topic for managers in red_and_blue)
    heard = RecordingController(), RecordingController()
    async with blue.watch(heard[1]):
        async with red.watch(heard[0]):
            for topic, color in ((red, "red"), (blue, "blue")):
                await topic.publish(f"{color} event")
            for controller, color in zip(heard, ("red", "blue"), strict=True):
                assert await controller.count(1) == [f"{color} event"]
        await blue.publish("after")
        assert (await heard[1].count(2))[-1] == "after"
    assert len(heard[0].data) == 1


async def test_metadata_of_the_same_id_is_each_namespaces_own(
    red_and_blue: tuple[SessionManagers, SessionManagers],
) -> None:
    red, blue = (managers.info for managers in red_and_blue)
    await red.initialize("s", RECORD)
    await red.add_subscription("s", "a://1")
    assert await blue.load("s") is None
    assert not await blue.initialize("s", RECORD, only_if_exists=True)
    for set_value in (blue.set_client_info("s", {}), blue.set_client_capabilities("s", {})):
        await set_value
    await blue.set_log_level("s", "error")
    await blue.update("s", initialized=True)
    await blue.add_subscription("s", "a://1")
    await blue.remove_subscription("s", "a://1")
    assert await blue.get_subscriptions("a://1") == set()
    assert await blue.get_client_info("s") is await blue.get_client_capabilities("s") is None
    assert await blue.get_log_level("s") is None
    await blue.initialize("s", RECORD)
    await blue.add_subscription("s", "a://1")
    await blue.delete("s")
    assert await red.load("s") == RECORD
    assert await red.get_subscriptions("a://1") == {"s"}


async def test_secrets_and_spent_tokens_are_each_namespaces_own(
    red_and_blue: tuple[SessionManagers, SessionManagers],
) -> None:
    red, blue = (managers.keys for managers in red_and_blue)
    assert red is not None
    assert blue is not None
    assert await red.secret("key", "of red") == "of red"
    assert await blue.secret("key", "of blue") == "of blue"
    assert await red.spend("token", seconds=60)
    assert await blue.spend("token", seconds=60)
    assert not await red.spend("token", seconds=60)


async def test_any_name_is_a_namespace_of_its_own(database_url: str) -> None:
    async with Database(database_url) as database, AsyncExitStack() as stack:
        streams, info = [], []
        for name in ODD:
            streams.append(PostgresStreamSessionManager(database, namespace=name))
            info.append(PostgresInfoSessionManager(database, namespace=name))
            stack.push_async_callback(streams[-1].aclose)
        controllers = [RecordingController() for _ in ODD]
        for name, manager, described, controller in zip(ODD, streams, info, controllers, strict=True):
            await described.initialize("s", RECORD)
            await described.add_subscription("s", "a://1")
            await manager.create("s", controller)
            await manager.send(None, f"to all of {name}")
        for name, manager, described, controller in zip(ODD, streams, info, controllers, strict=True):
            assert manager.namespace == described.namespace == name
            assert await described.get_subscriptions("a://1") == {"s"}
            assert await controller.count(1) == [f"to all of {name}"]
        assert await list_namespaces(database) == sorted(ODD)
        assert sorted(await namespaces_of(database, "s")) == sorted(ODD)
        listed = await list_sessions(database, limit=100)
        assert sorted(each.namespace for each in listed) == sorted(ODD)
        assert all(each.id == "s" and each.stream_at for each in listed)
        for name in ODD:
            assert [each.namespace for each in await list_sessions(database, limit=9, namespace=name)] == [
                name
            ]
        await streams[0].delete("s")
        await info[0].delete("s")
        assert await list_sessions(database, limit=9, namespace=ODD[0]) == []
        for one, other in pairwise(info[1:]):
            assert await one.load("s") == await other.load("s") == RECORD


@pytest.mark.parametrize(
    "name", ["", "  ", "a" * 129, "a\nb", "a\0b", "\x7f", "\ud800", "a\N{LINE SEPARATOR}"]
)
def test_what_is_no_namespace_is_refused(name: str) -> None:
    for make in (PostgresStreamSessionManager, PostgresInfoSessionManager, PostgresSubscriptionBus):
        with pytest.raises(ConfigurationError, match="a namespace has"):
            make("postgresql://nobody@127.0.0.1:1/x", namespace=name)


def test_keys_are_read_back_and_no_two_addresses_have_the_same() -> None:
    addresses = ["s", "a:s", "/broadcast", "s/in.r1", ""]
    keys = {Namespace(name).key(address): (name, address) for name in ODD for address in addresses}
    assert len(keys) == len(ODD) * len(addresses)
    for each, meant in keys.items():
        assert Namespace.split(each) == meant
        assert Namespace(meant[0]).address(each) == meant[1]
        first, behind = (bound.encode() for bound in Namespace(meant[0]).bounds)
        inside = [other for other in keys if first <= other.encode() < behind]
        assert {keys[other][0] for other in inside} == {meant[0]}


def test_no_statement_names_a_topic_without_its_namespace() -> None:
    text = files("tmcp_serverless.postgres").joinpath("sql", "streams.sql").read_text(encoding="utf-8")
    named = [line for line in text.splitlines() if "/broadcast'" in line or "/events'" in line]
    assert [line.strip() for line in named] == [
        "WHERE box.id >= name || ':' AND box.id < name || ';' AND box.id <> name || ':/broadcast'",
        "AND split_part(id, ':', 2) NOT IN ('/broadcast', '/events')  -- of no namespace",
    ]


# Sweeping, which is for the whole database


async def test_a_sweep_leaves_the_sessions_of_a_server_that_keeps_them_for_longer(database_url: str) -> None:
    async with (
        PostgresInfoSessionManager(database_url, namespace="long", idle_seconds=864_000) as long,
        PostgresInfoSessionManager(database_url, namespace="short", idle_seconds=3_600) as short,
    ):
        await long.initialize("s", RECORD)
        await short.initialize("s", RECORD)
        await execute(database_url, "UPDATE tmcp_session_context SET updated_at = now() - interval '2 h'")
        assert await short.sweep() == 1
        assert await long.load("s") == RECORD
        await execute(database_url, "UPDATE tmcp_session_context SET updated_at = now() - interval '11 days'")
        assert await short.sweep() == 1


@pytest.mark.parametrize("own", ["b", "z"])
async def test_small_sweeps_come_to_the_namespaces_of_servers_that_are_gone(
    database_url: str, own: str
) -> None:
    async with PostgresStreamSessionManager(database_url, namespace=own) as streams:
        await streams.prepare("s")
        for gone in ("a", "c", "d", "ö"):
            await execute(
                database_url,
                "INSERT INTO tmcp_mailboxes (id, last, updated_at) "
                "SELECT $1 || ':' || md5(n::text), 0, now() - interval '8 days' "
                "FROM generate_series(1, 50) AS n",
                gone,
            )
        async with asyncio.timeout(30):
            while len(await execute(database_url, "SELECT FROM tmcp_mailboxes")) > 1:
                await streams.sweep(limit=10)


async def test_a_sweep_keeps_the_topics_of_every_namespace(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "_ALL", 1)
    async with (
        PostgresStreamSessionManager(database_url, namespace="red") as red,
        PostgresStreamSessionManager(database_url, namespace="blue") as blue,
    ):
        for streams in (red, blue):
            await streams.prepare("s")
            async with streams.events.watch(RecordingController()):
                pass
            await streams.send(None, "x")
        await execute(database_url, "UPDATE tmcp_mailboxes SET updated_at = now() - interval '8 days'")
        await execute(database_url, "UPDATE tmcp_messages SET created_at = now() - interval '8 days'")
        while await red.sweep():
            pass
        rows = await execute(database_url, "SELECT id FROM tmcp_mailboxes ORDER BY id")
    topics = [f"{name}:/{topic}" for name in ("blue", "red") for topic in ("broadcast", "events")]
    assert [row[0] for row in rows] == topics


async def test_a_broadcast_that_nobody_could_hear_makes_no_namespace(database_url: str) -> None:
    async with Database(database_url) as database:
        async with PostgresStreamSessionManager(database, namespace="typo") as streams:
            await streams.send(None, "x")
        assert await list_namespaces(database) == []
        async with (
            PostgresStreamSessionManager(database, namespace="real") as streams,
            streams.events.watch(RecordingController()),
        ):
            pass
        assert await list_namespaces(database) == ["real"]


# What it costs


async def test_who_is_subscribed_is_looked_for_in_the_namespace_alone(database_url: str) -> None:
    """A server of a few sessions does not read those of a server of many."""
    async with (
        PostgresInfoSessionManager(database_url, namespace="few") as few,
        PostgresInfoSessionManager(database_url, namespace="many") as many,
    ):
        await few.initialize("s", RECORD)
        await few.add_subscription("s", "a://1")
        await many.check()
        await execute(
            database_url,
            "WITH made AS (INSERT INTO tmcp_session_context "
            "SELECT 'many:' || n, '', 'x', true, '{}', '{}', null, 60 "
            "FROM generate_series(1, 5000) AS n RETURNING id) "
            "INSERT INTO tmcp_session_subscriptions SELECT id, 'a://1' FROM made",
        )
        await execute(database_url, "ANALYZE")
        sql = few._statements.sql  # pyright: ignore[reportPrivateUsage]
    name, *args = "get_subscriptions", "a://1", 60.0, *Namespace("few").bounds
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("PREPARE asked AS " + sql[name])
        literals = ", ".join(f"'{each}'" for each in args)
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) EXECUTE asked ({literals})")
    finally:
        await connection.close()
    plan = "\n".join(row[0] for row in rows)
    assert "Seq Scan" not in plan, plan
    assert "Rows Removed" not in plan, plan
