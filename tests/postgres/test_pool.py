"""Who gets a connection when there are few: everybody, in turn, and never one that cannot be trusted."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.postgres.test_streams import pgbouncer
from tests.support.activity import connections
from tests.support.waiting import eventually
from tmcp_serverless import Database, StoreUnavailableError
from tmcp_serverless.postgres import pool
from tmcp_serverless.postgres.connect import target

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tmcp_serverless.postgres.database import Connection, Row

__all__ = ["pgbouncer"]

PID = "SELECT pg_backend_pid()"
SLEEP = "SELECT pg_sleep(30)"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for what never comes finds out soon."""
    monkeypatch.setattr(pool, "_BUSY_SECONDS", 2.0)


async def pid_of(database: Database) -> int:
    row = await database.fetchrow(PID, idempotent=True)
    assert row is not None
    return row[0]


class Gate:
    """Stands before the opening of connections, and counts how many are at it at once."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = asyncio.Event()
        self.failures = 0
        self.now = self.most = self.all = 0
        self._open = database.target.open
        monkeypatch.setattr(database.target, "open", self.open)

    async def open(self, **options: Any) -> Connection:
        self.now, self.all = self.now + 1, self.all + 1
        self.most = max(self.most, self.now)
        try:
            await self.free.wait()
            if self.failures:
                self.failures -= 1
                raise StoreUnavailableError("not now")
            return await self._open(**options)
        finally:
            self.now -= 1

    async def reached(self, count: int) -> None:
        async def is_there() -> bool:
            return self.all >= count

        await eventually(is_there)


async def settle() -> None:
    """Let every task get as far as it comes without the network."""
    for _ in range(10):
        await asyncio.sleep(0)


def begun(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(work)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_who_waits_gets_the_connection_that_somebody_was_cancelled_opening(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(database_url, size=1)
    gate = Gate(database, monkeypatch)
    first = begun(pid_of(database))
    await gate.reached(1)
    second = begun(pid_of(database))
    await settle()
    await cancelled(first)
    gate.free.set()
    assert await second
    assert gate.all == 1, "what was begun for the first is there for the second"
    await database.aclose()


async def test_there_are_never_more_than_was_allowed_however_many_are_cancelled(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(database_url, size=2)
    gate = Gate(database, monkeypatch)
    for _ in range(5):
        tasks = [begun(pid_of(database)) for _ in range(2)]
        await settle()
        for task in tasks:
            await cancelled(task)
    assert (gate.now, gate.most) == (2, 2)
    gate.free.set()
    assert len(set(await asyncio.gather(*(pid_of(database) for _ in range(8))))) <= 2
    await database.aclose()
    assert await connections(database_url) == []


async def test_what_is_still_being_opened_is_closed_too(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_CLOSE_SECONDS", 0.1)
    database = Database(database_url)
    gate = Gate(database, monkeypatch)
    first = begun(pid_of(database))
    await gate.reached(1)
    await cancelled(first)
    await database.aclose()
    gate.free.set()

    async def is_closed() -> bool:
        return gate.now == 0 and not await connections(database_url)

    await eventually(is_closed)


async def test_who_waits_may_try_when_somebody_could_not_connect(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(database_url, size=1)
    gate = Gate(database, monkeypatch)
    gate.failures = 2
    tasks = [begun(pid_of(database)) for _ in range(4)]
    await gate.reached(1)
    await settle()
    gate.free.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(result) for result in results[:2]] == ["not now"] * 2
    assert results[2] == results[3]
    assert gate.all == 3
    await database.aclose()


async def test_who_is_cancelled_when_it_is_their_turn_passes_it_on(database_url: str) -> None:
    database = Database(database_url, size=1)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def hold(_: object) -> None:
        entered.set()
        await leave.wait()
        # Runs when the second has been handed the connection, and has not woken yet.
        asyncio.get_running_loop().call_soon(second.cancel)

    holder = begun(database.run(hold))
    await entered.wait()
    second, third = begun(pid_of(database)), begun(pid_of(database))
    await settle()
    leave.set()
    assert await third
    with pytest.raises(asyncio.CancelledError):
        await second
    await holder
    await database.aclose()


async def test_one_who_comes_again_and_again_does_not_keep_others_waiting(database_url: str) -> None:
    database = Database(database_url, size=1)
    done = 0
    is_over = False

    async def again_and_again() -> None:
        nonlocal done
        while not is_over:
            await pid_of(database)
            done += 1

    busy = begun(again_and_again())

    async def is_under_way() -> bool:
        return done > 3

    await eventually(is_under_way)
    before = done
    try:
        await pid_of(database)
    finally:
        is_over = True
        await busy
    assert done - before <= 3
    await database.aclose()


async def test_where_all_stay_busy_the_error_says_which_setting(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_BUSY_SECONDS", 0.1)
    database = Database(database_url, size=1)
    entered = asyncio.Event()

    async def hold(_: object) -> None:
        entered.set()
        await asyncio.Event().wait()

    holder = begun(database.run(hold))
    await entered.wait()
    with pytest.raises(StoreUnavailableError, match="TMCP_DATABASE_CONNECTIONS"):
        await pid_of(database)
    await cancelled(holder)
    assert await pid_of(database)
    await database.aclose()


async def test_a_connection_that_was_idle_for_long_is_not_trusted_though_another_was_used(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr(pool, "time", SimpleNamespace(time=lambda: now))
    database = Database(database_url, size=2)
    both = await asyncio.gather(pid_of(database), pid_of(database))
    now += 20
    used = await pid_of(database)
    now += 20
    later = await asyncio.gather(pid_of(database), pid_of(database))
    assert used in later
    [idle] = set(both) - {used}
    assert idle not in later
    await database.aclose()


async def test_a_statement_that_fails_again_and_again_is_run_twice(database_url: str) -> None:
    database = Database(database_url)
    await database.fetchrow("CREATE SEQUENCE runs", idempotent=False)
    await database.fetchrow(
        "CREATE FUNCTION fails() RETURNS int LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM nextval('runs'); RAISE serialization_failure; END $$",
        idempotent=False,
    )
    # On a connection that was there: the way of most requests is another one than that of the others.
    with pytest.raises(StoreUnavailableError, match="too busy"):
        await database.fetchrow("SELECT fails()", idempotent=True)
    row = await database.fetchrow("SELECT last_value FROM runs", idempotent=True)
    assert row is not None
    assert row[0] == 2
    await database.aclose()


async def test_statements_meet_at_a_row_as_they_are_written_for_whatever_the_roles_default(
    database_url: str,
) -> None:
    database = Database(database_url)
    name = await database.fetchrow("SELECT current_database()", idempotent=True)
    assert name is not None
    await database.fetchrow(
        f"ALTER DATABASE \"{name[0]}\" SET default_transaction_isolation = 'serializable'", idempotent=True
    )
    await database.aclose()
    row = await database.fetchrow("SHOW transaction_isolation", idempotent=True)
    assert row is not None
    assert row[0] == "read committed"
    await database.aclose()


# Behind a pooler, where statements come to connections that others have prepared theirs on


async def test_every_connection_has_names_of_its_own_for_its_statements(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg asks `_get_unique_id` for them, which is no part of its public interface."""
    names: list[set[str]] = []
    for _ in range(2):
        # As in another process, which counts from 1 too.
        monkeypatch.setattr(asyncpg.connection, "_uid", 0)
        connection = await Database(database_url).connect()
        await connection.fetchrow_prepared("SELECT 1")
        rows = await connection.fetch("SELECT name FROM pg_prepared_statements")
        names.append({row[0] for row in rows})
        await connection.close()
    assert [len(each) for each in names] == [2, 2]
    assert names[0].isdisjoint(names[1])


async def test_a_process_never_runs_what_another_has_prepared(
    pgbouncer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(database: Database, sql: str) -> Any:
        row = await database.fetchrow(sql, idempotent=True)
        assert row is not None
        return row[0]

    monkeypatch.setattr(asyncpg.connection, "_uid", 0)
    one, another = Database(pgbouncer), Database(pgbouncer)
    assert await run(one, "SELECT 'mine'") == "mine"
    elsewhere = await asyncpg.connect(pgbouncer, statement_cache_size=0)
    async with elsewhere.transaction():  # It has the connection on which that was prepared.
        monkeypatch.setattr(asyncpg.connection, "_uid", 0)
        assert await run(another, "SELECT 'somebody else''s'") == "somebody else's"
        assert await run(one, "SELECT 'mine'") == "mine"
    await elsewhere.close()
    await one.aclose()
    await another.aclose()


async def still_running(dsn: str) -> list[str]:
    return [query for query in await connections(dsn) if "pg_sleep" in query]


async def test_a_statement_that_was_cancelled_ends_on_the_server_too(database_url: str) -> None:
    database = Database(database_url, size=1)
    task = begun(database.fetchrow(SLEEP, idempotent=False))

    async def is_running() -> list[str]:
        return await still_running(database_url)

    async def has_ended() -> bool:
        return not await still_running(database_url)

    await eventually(is_running)
    await cancelled(task)
    await eventually(has_ended, seconds=1.5)  # The server itself looks every 3 s.
    await database.aclose()


async def test_a_statement_that_took_too_long_ends_on_the_server_too(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "_STATEMENT_SECONDS", 0.2)
    database = Database(database_url, size=1)
    with pytest.raises(StoreUnavailableError):
        await database.fetchrow(SLEEP, idempotent=False)
    await database.aclose()
    assert await still_running(database_url) == []


async def test_the_server_ends_a_statement_whose_client_has_gone(
    each_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "_CHECK_SECONDS", 0.5)
    connection = await Database(each_database_url).connect()
    assert await connection.fetchval("SHOW client_connection_check_interval") == "500ms"
    task = begun(connection.execute(SLEEP, timeout=60))

    async def is_running() -> list[str]:
        return await still_running(each_database_url)

    async def has_ended() -> bool:
        return not await still_running(each_database_url)

    await eventually(is_running)
    connection.terminate()  # As the end of a process does, without a word to the server.
    with pytest.raises(asyncpg.PostgresError):
        await task
    await eventually(has_ended)


async def test_a_server_that_cannot_look_after_its_clients_is_used_without_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(target, "_CHECK_SECONDS", -1.0)  # As invalid as any is on Windows.
    database = Database(database_url)
    with caplog.at_level("INFO", logger="tmcp_serverless"):
        for _ in range(2):
            connection = await database.connect()
            assert await connection.fetchval("SHOW idle_session_timeout") == "1min"
            await connection.close()
    [said] = [record.getMessage() for record in caplog.records]
    assert "does without client_connection_check_interval" in said


async def test_a_connection_that_prepares_is_not_used_any_more_when_preparing_has_stopped(
    database_url: str,
) -> None:
    database = Database(database_url, size=2)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def hold(connection: Connection) -> Any:
        entered.set()
        await leave.wait()
        return await connection.fetchval(PID)

    holder = begun(database.run(hold))
    await entered.wait()
    # As pgbouncer answers, when a statement was prepared on another connection of its own.
    with pytest.raises(StoreUnavailableError, match="a pooler has lost a prepared statement"):
        await database.fetch("EXECUTE nothing", idempotent=True)
    leave.set()
    prepared = await holder
    assert prepared not in await asyncio.gather(*(pid_of(database) for _ in range(4)))
    await database.aclose()


async def test_behind_a_pooler_in_transaction_mode_many_at_once_are_answered(pgbouncer: str) -> None:
    database = Database(pgbouncer)
    for number in range(3):
        sql = f"SELECT {number}"
        rows = await asyncio.gather(*(database.fetchrow(sql, idempotent=True) for _ in range(40)))
        assert [row[0] for row in rows if row] == [number] * 40
    await database.aclose()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted as Linux shows them")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_connections_of_event_loops_that_have_ended_are_let_go(database_url: str) -> None:
    # asyncio frees their sockets when they are garbage, and says so: whoever wants none closes the database.
    database = Database(database_url)
    descriptors: list[int] = []

    async def once() -> Row | None:
        return await database.fetchrow(PID, idempotent=True)

    for _ in range(10):
        asyncio.run(once())
        gc.collect()
        descriptors.append(len(list(Path("/proc/self/fd").iterdir())))
    assert max(descriptors[1:]) <= descriptors[0] + 1

    async def only_one() -> bool:
        return len(await connections(database_url)) == 1

    asyncio.run(eventually(only_one))
    asyncio.run(database.aclose())
    gc.collect()
