"""How a stream's rows are read: on which connection, how many at a time, and who gets a page not written."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.adversity.proxy import Proxy
from tests.support.rows import key, statements_of
from tests.support.waiting import eventually
from tmcp_serverless import Database, PostgresStreamSessionManager, StoreUnavailableError
from tmcp_serverless.postgres.components import streams_component
from tmcp_serverless.postgres.connection import Connection
from tmcp_serverless.postgres.sql_files import PAGE_ROWS
from tmcp_serverless.postgres.statements import Statements
from tmcp_serverless.testing.contracts import RecordingController

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from tmcp_serverless.sessions import StoredEvent


def tickless(dsn: str | Database) -> PostgresStreamSessionManager:
    """A manager whose heartbeat finds nothing that a ring should have told of."""
    return PostgresStreamSessionManager(dsn, heartbeat_seconds=60, lease_seconds=200)


@asynccontextmanager
async def connected(dsn: str) -> AsyncGenerator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def connections(dsn: str) -> dict[str, str]:
    """Return the name of each of our connections, and its last statement."""
    async with connected(dsn) as connection:
        rows = await connection.fetch(
            "SELECT application_name || ' ' || pid, query FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'tmcp_serverless%'"
        )
    return {row[0]: row[1] for row in rows}


@pytest.mark.parametrize("to_all", [False, True])
async def test_a_message_is_read_on_the_connection_that_heard_of_it(
    database_url: str, *, to_all: bool
) -> None:
    async with tickless(database_url) as streams, PostgresStreamSessionManager(database_url) as elsewhere:
        controller = RecordingController()
        await streams.create("s", controller)
        await elsewhere.send(["s"], "1")
        await controller.count(1)
        before = await connections(database_url)
        for number in range(20):
            await elsewhere.send(None if to_all else ["s"], str(number))
            await controller.count(number + 2)
        after = await connections(database_url)
    reading = [name for name, query in after.items() if "AS lease SET" in query]
    assert len(reading) == 1
    assert reading[0].startswith("tmcp_serverless listen ")
    assert set(before) == set(after), "no further connection was needed"


@pytest.mark.parametrize("address", ["s", "s/in.1"])
async def test_messages_that_ring_together_are_all_read_at_once(database_url: str, address: str) -> None:
    async with (
        tickless(database_url) as streams,
        PostgresStreamSessionManager(database_url) as elsewhere,
    ):
        controller = RecordingController()
        await streams.create(address, controller)
        for round_ in range(1, 21):
            await asyncio.gather(*(elsewhere.send([address], "x") for _ in range(10)))
            await controller.count(10 * round_)
        assert len(controller.events) == 200


async def test_broadcasts_and_messages_that_come_together_are_all_read(database_url: str) -> None:
    ids = [f"s{number}" for number in range(5)]
    async with tickless(database_url) as streams, PostgresStreamSessionManager(database_url) as elsewhere:
        controllers = {id: RecordingController() for id in ids}
        for id, controller in controllers.items():
            await streams.create(id, controller)
        for round_ in range(1, 21):
            to_all = [elsewhere.send(None, "all") for _ in range(round_ % 3)]
            to_some = [elsewhere.send([id], id) for id in ids[: round_ % 6]]
            await asyncio.gather(*to_all, *to_some)
        broadcasts = sum(round_ % 3 for round_ in range(1, 21))
        for number, (id, controller) in enumerate(controllers.items()):
            own = sum(round_ % 6 > number for round_ in range(1, 21))
            await controller.count(broadcasts + own)
            assert controller.data.count("all") == broadcasts
            assert controller.data.count(id) == own


class SlowController(RecordingController):
    """One whose client takes a page when it is let, and no sooner."""

    def __init__(self) -> None:
        super().__init__()
        self.pages = asyncio.Semaphore(0)

    async def write(self, events: Sequence[StoredEvent]) -> None:
        await super().write(events)
        await self.pages.acquire()


async def test_one_ring_while_a_backlog_is_read_does_not_end_it(database_url: str) -> None:
    async with tickless(database_url) as streams, PostgresStreamSessionManager(database_url) as elsewhere:
        controller = SlowController()
        await streams.create("s", controller)
        await elsewhere.send(["s"], "first")
        await controller.count(1)
        for number in range(3 * PAGE_ROWS):
            await elsewhere.send(["s"], str(number))
        await asyncio.sleep(0.2)  # by now all have rung
        controller.pages.release()
        await controller.count(1 + PAGE_ROWS)
        await elsewhere.send(["s"], "last")
        await asyncio.sleep(0.2)  # by now it has rung, and the page behind the first is still to be read
        for _ in range(10):
            controller.pages.release()
        assert len(await controller.count(3 * PAGE_ROWS + 2)) == 3 * PAGE_ROWS + 2


async def test_a_message_whose_ring_was_never_sent_is_read_with_the_next_or_at_a_tick(
    database_url: str,
) -> None:
    async with PostgresStreamSessionManager(database_url, heartbeat_seconds=0.3) as streams:
        controller = RecordingController()
        await streams.create("s", controller)
        async with connected(database_url) as connection:
            await connection.execute("UPDATE tmcp_sessions SET updated_at = now() - interval '1 h'")
        await streams.send(["s"], "no lease was fresh")
        async with connected(database_url) as connection:
            await connection.execute("UPDATE tmcp_sessions SET updated_at = now()")
        await streams.send(["s"], "one was")
        assert await controller.count(2) == ["no lease was fresh", "one was"]


async def test_after_the_doorbell_was_away_everything_is_looked_at(database_url: str) -> None:
    """The mailbox of a request hears of nothing but itself, and may have missed any number of rings."""
    async with PostgresStreamSessionManager(database_url, heartbeat_seconds=0.3) as streams:
        controller = RecordingController()
        await streams.create("s/in.1", controller)
        for round_ in range(3):
            async with connected(database_url) as connection:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND application_name LIKE 'tmcp_serverless%'"
                )
            async with PostgresStreamSessionManager(database_url) as elsewhere:
                for _ in range(5):
                    await elsewhere.send(["s/in.1"], "x")
            await controller.count(5 * (round_ + 1))


@pytest.mark.parametrize("burst", [1, 3])
async def test_a_page_that_was_read_as_its_stream_was_released_is_the_next_ones(
    database_url: str, burst: int
) -> None:
    async with (
        tickless(database_url) as streams,
        PostgresStreamSessionManager(database_url) as elsewhere,
    ):
        first, second = RecordingController(), RecordingController()
        await streams.create("s", first)
        await elsewhere.send(["s"], "0")
        await first.count(1)
        async with connected(database_url) as blocker:
            # The read has to wait for the lease's row, and the stream ends meanwhile.
            async with blocker.transaction():
                await blocker.execute("SELECT FROM tmcp_sessions WHERE id = 'default:s' FOR UPDATE")
                await asyncio.gather(*(elsewhere.send(["s"], str(number + 1)) for number in range(burst)))

                async def waiting() -> bool:
                    return bool(
                        await blocker.fetchval(
                            "SELECT count(*) FROM pg_stat_activity "
                            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
                        )
                    )

                await eventually(waiting)
                releasing = asyncio.ensure_future(streams.release("s", first))
                await asyncio.sleep(0)
            await releasing
        assert first.data == ["0"]
        await elsewhere.create("s", second)
        assert len(await second.count(burst)) == burst
        assert second.data[0] == "1"


async def test_no_statement_that_reads_or_writes_a_message_is_planned_anew(database_url: str) -> None:
    """Where there are statistics, a limit that is a parameter has `read` planned at every run: 0.4 ms."""
    async with Database(database_url, size=1) as database, tickless(database) as streams:
        for number in range(1_000):
            await streams.append(f"session {number % 50}", "x" * 100)
        async with connected(database_url) as connection:
            await connection.execute("ANALYZE")
        sql = statements_of(streams_component(schema="public"))
        calls: dict[str, tuple[Any, ...]] = {
            "deliver": (key("session 1"), "x", None),
            "append": (key("session 1"), "x", None),
            "read": (key("session 1"), "nobody", 0, 0, True),
            "read_next": (key("session 1"), "nobody", 0),
            "read_next_topic": (key("session 1"), "nobody", 0),
            "peek": (0,),
            "has": (key("session 1"), None),
        }
        for name, args in calls.items():
            for _ in range(12):
                await database.fetchrow(sql[name], *args, idempotent=True)
        rows = await database.fetch(
            "SELECT statement, custom_plans FROM pg_prepared_statements", idempotent=True
        )
    anew = {name for name in calls for row in rows if row[0] == sql[name] and row[1] > 5}
    assert anew == set()


async def test_a_statement_is_prepared_once_from_its_first_run_on(database_url: str) -> None:
    database = Database(database_url, size=1)
    for number in range(3):
        row = await database.fetchrow("SELECT $1::int", number, idempotent=True)
        assert row is not None
        assert row[0] == number
    rows = await database.fetch("SELECT statement FROM pg_prepared_statements", idempotent=True)
    assert [row[0] for row in rows].count("SELECT $1::int") == 1
    await database.aclose()


async def test_a_page_with_a_gap_is_read_again_where_the_gap_could_not_be_recorded(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetchrow, failed = Statements.fetchrow, 0

    async def failing(self: Statements, name: str, *args: object, idempotent: bool) -> Any:
        nonlocal failed
        if name == "move" and not failed:
            failed += 1
            raise StoreUnavailableError("the connection to the database was lost")
        return await fetchrow(self, name, *args, idempotent=idempotent)

    monkeypatch.setattr(Statements, "fetchrow", failing)
    controller = RecordingController()
    async with tickless(database_url) as streams, connected(database_url) as connection:
        for number in range(6):
            await streams.send(["s"], str(number))
        await connection.execute("DELETE FROM tmcp_messages WHERE n <= 2")
        await streams.create("s", controller)
        assert await controller.count(4) == ["2", "3", "4", "5"]
        assert (controller.missing, failed) == (2, 1)


@pytest.mark.parametrize("doorbell", ["listen", "poll"])
@pytest.mark.parametrize("kind", ["stream", "watch"])
async def test_what_expires_while_a_client_is_slow_is_told_and_not_looked_for_again_and_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch, doorbell: Any, kind: str
) -> None:
    controller = SlowController()
    async with (
        PostgresStreamSessionManager(database_url, doorbell=doorbell, heartbeat_seconds=0.2) as streams,
        connected(database_url) as connection,
        AsyncExitStack() as stack,
    ):
        if kind == "stream":
            await streams.create("s", controller)
            send = partial(streams.send, ["s"])
        else:
            await stack.enter_async_context(streams.events.watch(controller))
            send = streams.events.publish
        await send("0")
        await controller.count(1)
        for number in range(1, 6):
            await send(str(number))
        await connection.execute("DELETE FROM tmcp_messages")
        controller.pages.release()
        await controller.until(lambda: controller.missing == 5)
        news: list[bool] = []
        polling = streams._doorbell._polling  # pyright: ignore[reportPrivateUsage]

        look = polling._look  # pyright: ignore[reportPrivateUsage]

        async def noting() -> bool:
            news.append(await look())
            return news[-1]

        monkeypatch.setattr(polling, "_look", noting)

        async def is_quiet() -> bool:
            return doorbell == "listen" or news[-3:] == [False] * 3

        await eventually(is_quiet)
        await send("6")
        assert await controller.count(2) == ["0", "6"]
        assert controller.missing == 5


async def test_streams_that_all_read_at_once_leave_connections_for_requests(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, fetchrow = Statements.fetch, Statements.fetchrow
    now = most = 0

    def counted(run: Any) -> Any:
        async def counting(self: Statements, name: str, *args: object, idempotent: bool) -> Any:
            nonlocal now, most
            reads = name.startswith("read")
            now, most = now + reads, max(most, now + reads)
            try:
                return await run(self, name, *args, idempotent=idempotent)
            finally:
                now -= reads

        return counting

    monkeypatch.setattr(Statements, "fetch", counted(fetch))
    monkeypatch.setattr(Statements, "fetchrow", counted(fetchrow))
    controllers = {f"s{number}": RecordingController() for number in range(40)}
    async with Database(database_url, size=4) as database, tickless(database) as streams:
        for id, controller in controllers.items():
            await streams.create(id, controller)
        for number in range(5):
            await streams.send(None, str(number))
        for controller in controllers.values():
            assert await controller.count(5) == [str(number) for number in range(5)]
    assert most == 2


async def test_a_statement_outlives_a_change_of_the_columns_that_it_returns(database_url: str) -> None:
    connection = await asyncpg.connect(database_url, connection_class=Connection)
    await connection.execute("CREATE TABLE t (value text); INSERT INTO t VALUES ('x')")
    assert (await connection.fetchrow_prepared("SELECT value FROM t"))[0] == "x"
    await connection.execute("ALTER TABLE t ALTER value TYPE varchar(10)")
    assert (await connection.fetchrow_prepared("SELECT value FROM t"))[0] == "x"
    assert (await connection.fetchrow_prepared("SELECT value FROM t"))[0] == "x"
    await connection.close()


async def test_a_poll_that_finds_its_link_dead_does_not_try_the_other_dead_ones(database_url: str) -> None:
    url = urlsplit(database_url)
    async with Proxy(url.port or 5432) as proxy, PostgresStreamSessionManager(database_url) as elsewhere:
        through = url._replace(netloc=f"{url.username}@127.0.0.1:{proxy.port}").geturl()
        async with PostgresStreamSessionManager(through, doorbell="poll") as streams:
            controller = RecordingController()
            await streams.create("s", controller)
            # As many connections as are used at once stay open.
            await asyncio.gather(*(streams.has("s") for _ in range(6)))
            proxy.strand()
            await elsewhere.send(["s"], "x")
            # A dead link is found out after 3 s; six of them, one after the other, after 18.
            async with asyncio.timeout(12):
                assert await controller.count(1) == ["x"]
