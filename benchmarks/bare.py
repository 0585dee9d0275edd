"""What delivery is compared with: asyncpg and Postgres, without a line of ours."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from benchmarks.samples import Operation

__all__ = ["bare_delivery", "bare_notify"]

_LIMIT_SECONDS = 5.0
_SCHEMA = """\
CREATE TABLE bare_mailboxes (id text PRIMARY KEY, last bigint NOT NULL) WITH (fillfactor = 70);
CREATE TABLE bare_messages (mailbox text, n bigint, data text NOT NULL, PRIMARY KEY (mailbox, n));
INSERT INTO bare_mailboxes VALUES ('one', 0);
"""
_APPEND = """\
WITH taken AS (
    UPDATE bare_mailboxes SET last = last + 1 WHERE id = $1 RETURNING last
), stored AS (
    INSERT INTO bare_messages SELECT $1, last, $2 FROM taken
)
SELECT last, pg_notify('bare', '') FROM taken
"""


@asynccontextmanager
async def bare_notify(url: str) -> AsyncGenerator[Operation]:
    """Yield what notifies through asyncpg's pool, as it comes, and ends in the callback of a connection.

    A pool, because that is what raw asyncpg means in a server, and what the 122 µs stand for that the goals
    were set by; `send` takes its connection from a pool too.
    """
    listener = await asyncpg.connect(url)
    arrival: asyncio.Future[float]

    def callback(*_: Any) -> None:
        arrival.set_result(time.perf_counter())

    async with asyncpg.create_pool(url, min_size=1, max_size=2) as sender:

        async def operation() -> float:
            nonlocal arrival
            arrival = asyncio.get_running_loop().create_future()
            start = time.perf_counter()
            await sender.fetchval("SELECT pg_notify('bench', '')")
            return await asyncio.wait_for(arrival, _LIMIT_SECONDS) - start

        await listener.add_listener("bench", callback)
        yield operation
        await listener.close()


@asynccontextmanager
async def bare_delivery(url: str) -> AsyncGenerator[Operation]:
    """Yield what stores a message, notifies, and ends when the callback's SELECT has brought it.

    The least that a message costs which is in a row before anybody hears of it: held connections, prepared
    statements, and the SELECT where the notification came, whose server process is awake. No lease, no fence,
    no stream.
    """
    sender, listener = await asyncpg.connect(url), await asyncpg.connect(url)
    await sender.execute(_SCHEMA)
    append = await sender.prepare(_APPEND)
    select = await listener.prepare("SELECT n, data FROM bare_messages WHERE mailbox = $1 AND n > $2")
    rung = asyncio.Event()
    number = 0

    def callback(*_: Any) -> None:
        rung.set()

    async def read() -> float:
        await rung.wait()
        rung.clear()
        rows = await select.fetch("one", number - 1)
        assert [row[0] for row in rows] == [number]
        return time.perf_counter()

    async def operation() -> float:
        nonlocal number
        number += 1
        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        start = time.perf_counter()
        await append.fetchrow("one", f"message {number}")
        return await asyncio.wait_for(reading, _LIMIT_SECONDS) - start

    await listener.add_listener("bare", callback)
    yield operation
    await sender.close()
    await listener.close()
