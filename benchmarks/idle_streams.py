"""What streams cost that nothing is sent to: connections, memory, heartbeats."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import TYPE_CHECKING, Self

import asyncpg

from benchmarks.asgi import Client
from benchmarks.database import fresh_database
from benchmarks.row import Row
from benchmarks.setting import running_handler
from benchmarks.wire import wire

if TYPE_CHECKING:
    from benchmarks.asgi import App, EventStream
    from benchmarks.setting import Setting
    from benchmarks.wire import Wire

__all__ = ["measure_footprint", "measure_heartbeats"]

_BEAT_SECONDS = 3.0


async def measure_footprint(setting: Setting) -> list[Row]:
    """Count connections with one stream and with 200, and weigh 500."""
    weighed = setting.size(500, 100)
    async with (
        fresh_database(setting.server_url) as url,
        running_handler(url) as app,
        _Streams(app) as streams,
    ):
        # Requests open connections too, up to a bound: reach it before counting what streams add.
        await asyncio.gather(*(streams.open(1) for _ in range(50)))
        before = await _connections(url)
        await streams.open(200)
        after = await _connections(url)
        kib = await _kib_per_stream(streams, weighed)
    return [
        Row(
            name="Postgres connections that 200 more idle streams open",
            ours=after - before,
            unit="connections",
            goal=0,
        ).noting(f"{before} with 50 streams, {after} with 250"),
        Row(name=f"memory of an idle stream, of {weighed}", ours=kib, unit="KiB", goal=50),
    ]


async def measure_heartbeats(setting: Setting) -> list[Row]:
    """Count statements while nothing happens, with one stream and with 300."""
    beats = setting.size(4, 2)
    async with (
        fresh_database(setting.server_url) as url,
        wire(url) as counts,
        running_handler(counts.url) as app,
        _Streams(app) as streams,
    ):
        await streams.open(1)
        with_one = await _statements_per_beat(counts, beats)
        await streams.open(299)
        with_many = await _statements_per_beat(counts, beats)
    row = Row(name="statements per 3 s with 300 idle streams", ours=with_many, unit="statements", goal=1)
    return [row.noting(f"{with_one:g} with one stream")]


class _Streams:
    """Idle streams, each of a session of its own."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._streams: list[EventStream] = []

    async def open(self, count: int) -> None:
        for _ in range(count):
            client = Client(self._app)
            await client.initialize()
            self._streams.append(await client.listen())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(stream.aclose() for stream in self._streams))


async def _connections(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()


async def _kib_per_stream(streams: _Streams, count: int) -> float:
    """Weigh what Python allocates for a stream and our end of it."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        await streams.open(count)
        await asyncio.sleep(0.5)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / 1024 / count
    finally:
        tracemalloc.stop()


async def _statements_per_beat(counts: Wire, beats: int) -> float:
    """Count from just after one heartbeat to just after another."""
    counts.reset()
    async with asyncio.timeout(4 * _BEAT_SECONDS):
        while not counts.executed:  # noqa: ASYNC110  # the proxy keeps a list, nothing to wait on
            await asyncio.sleep(0.01)
    await asyncio.sleep(_BEAT_SECONDS / 6)
    counts.reset()
    await asyncio.sleep(beats * _BEAT_SECONDS)
    return len(counts.executed) / beats
