"""A warm `tools/call` on an existing session: what a request costs, and how often it asks the database.

The session is young, so its idle clock is not due to be slid: the statement writes nothing, as it does for
all but one request in 86 seconds. What sleeping and waking cost is in our number and not in the SDK's,
which waits for nobody; on a virtual machine that alone moves the ratio (a bare SELECT takes 26 to 75 µs
here), so it is measured beside them.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from benchmarks.asgi import Client, lifespan
from benchmarks.database import fresh_database
from benchmarks.example import build_server
from benchmarks.row import Row
from benchmarks.samples import interleave, timed
from benchmarks.setting import running_handler
from benchmarks.wire import wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from benchmarks.asgi import App
    from benchmarks.samples import Operation
    from benchmarks.setting import Setting

__all__ = ["measure_latency", "measure_round_trips"]


async def measure_latency(setting: Setting) -> list[Row]:
    """Compare with the SDK's session in the memory of one process, in both of its modes."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(fresh_database(setting.server_url))
        apps = {
            "SDK, SSE": await stack.enter_async_context(_sdk(json_response=False)),
            "SDK, JSON": await stack.enter_async_context(_sdk(json_response=True)),
            "ours": await stack.enter_async_context(running_handler(url)),
        }
        clients = {name: Client(app) for name, app in apps.items()}
        for client in clients.values():
            await client.initialize()
        operations = {name: timed(client.add) for name, client in clients.items()}
        operations["SELECT"] = await stack.enter_async_context(_bare_select(url))
        samples = await interleave(operations, rounds=setting.rounds, calls=50)
    note = f"a bare SELECT: {samples.median('SELECT') * 1e6:.0f} µs"
    return [
        Row.of_medians(
            "warm tools/call, to the SDK's SSE session", samples, reference="SDK, SSE", goal=0.5
        ).noting(note),
        Row.of_medians(
            "warm tools/call, to the SDK's JSON session", samples, reference="SDK, JSON", goal=1.15
        ).noting(note),
    ]


async def measure_round_trips(setting: Setting) -> list[Row]:
    """Count on the wire what the same request says to Postgres."""
    calls = 100
    async with (
        fresh_database(setting.server_url) as url,
        wire(url) as counts,
        running_handler(counts.url) as app,
    ):
        client = Client(app)
        await client.initialize()
        await _call(client, 5)
        listens = counts.listens
        counts.reset()
        await _call(client, calls)
        trips = counts.round_trips
        listens += counts.listens
    return [
        Row(name="database round trips of that request", ours=trips / calls, unit="per call", goal=1),
        Row(name="LISTEN since the process began", ours=listens, unit="statements", goal=0),
    ]


async def _call(client: Client, times: int) -> None:
    for _ in range(times):
        await client.add()


@asynccontextmanager
async def _bare_select(url: str) -> AsyncGenerator[Operation]:
    connection = await asyncpg.connect(url)

    async def select() -> None:
        await connection.fetchval("SELECT 1")

    try:
        yield timed(select)
    finally:
        await connection.close()


@asynccontextmanager
async def _sdk(*, json_response: bool) -> AsyncGenerator[App]:
    app = build_server().streamable_http_app(json_response=json_response)
    async with lifespan(app):
        yield app
