"""From a send on one instance to the bytes on another instance's SSE stream."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from benchmarks.asgi import Client
from benchmarks.database import fresh_database
from benchmarks.row import Row
from benchmarks.samples import interleave
from benchmarks.setting import running_handler, sending, streams_manager

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from benchmarks.samples import Operation
    from benchmarks.setting import Setting

__all__ = ["measure_delivery"]

_LIMIT_SECONDS = 5.0


async def measure_delivery(setting: Setting) -> list[Row]:
    """Compare with a raw `pg_notify` and its callback, with durable commits and without."""
    return [
        await _measure(setting, "send on A → bytes on B's SSE stream, durable", durable=True, goal=4),
        await _measure(setting, "the same, synchronous_commit=off", durable=False, goal=1.6),
    ]


async def _measure(setting: Setting, name: str, *, durable: bool, goal: float) -> Row:
    async with (
        fresh_database(setting.server_url, durable=durable) as url,
        _raw_notify(url) as notify,
        _send_and_receive(url) as send,
    ):
        samples = await interleave(
            {"pg_notify": notify, "ours": send}, rounds=setting.rounds, calls=50, warm_up=100
        )
    return Row.of_medians(name, samples, reference="pg_notify", goal=goal)


@asynccontextmanager
async def _raw_notify(url: str) -> AsyncGenerator[Operation]:
    """Yield what notifies through asyncpg's pool, as it comes, and ends in the callback of a connection.

    A pool, because that is what raw asyncpg means in a server, and what the 122 µs stand for that the goals
    were set by; `send` takes its connection from a pool too. On a connection that is held for the purpose
    `pg_notify` to callback takes 65 to 90 µs here, and a bare append, notify and SELECT over such connections
    already 4.1 to 4.3 times that, or 2.1 to 2.3 times without durable commits.
    """
    sender = await asyncpg.create_pool(url, min_size=1, max_size=2)
    listener = await asyncpg.connect(url)
    arrival: asyncio.Future[float]

    def callback(*_: Any) -> None:
        arrival.set_result(time.perf_counter())

    async def operation() -> float:
        nonlocal arrival
        arrival = asyncio.get_running_loop().create_future()
        start = time.perf_counter()
        await sender.fetchval("SELECT pg_notify('bench', '')")
        return await asyncio.wait_for(arrival, _LIMIT_SECONDS) - start

    try:
        await listener.add_listener("bench", callback)
        yield operation
    finally:
        await sender.close()
        await listener.close()


@asynccontextmanager
async def _send_and_receive(url: str) -> AsyncGenerator[Operation]:
    """Yield what sends with one instance's manager, and ends in the other instance's response."""
    async with running_handler(url) as app, streams_manager(url) as elsewhere:
        client = Client(app)
        await client.initialize()
        stream = await client.listen()
        yield sending(elsewhere, client.session_id, stream)
        await stream.aclose()
