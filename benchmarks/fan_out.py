"""One message for many sessions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg

from benchmarks.database import fresh_database
from benchmarks.row import Row
from benchmarks.samples import interleave, timed
from benchmarks.setting import streams_manager
from benchmarks.wire import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.setting import Setting
    from tmcp_serverless.sessions import StreamSessionManager

__all__ = ["measure_broadcast", "measure_subscribers"]

_DATA = '{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"bench://orders/1"}}'
_MESSAGES = "tmcp_messages"
_INSERT = "INSERT INTO raw (mailbox, n, data) SELECT id, $2, $3 FROM unnest($1::text[]) AS given (id)"


async def measure_broadcast(setting: Setting) -> list[Row]:
    """Compare a message for every session with one for one session, and count its rows."""
    sessions = [f"session-{number:05}" for number in range(setting.size(10_000, 1_000))]
    async with fresh_database(setting.server_url) as url, streams_manager(url) as streams:
        await _prepare(streams, sessions)
        samples = await interleave(
            {
                "ours": timed(lambda: streams.send(None, _DATA)),
                "one": timed(lambda: streams.send(sessions[:1], _DATA)),
            },
            rounds=setting.rounds,
            calls=50,
        )
        rows = await _rows_of_one_broadcast(url, streams)
    name = f"broadcast to {len(sessions):,} sessions"
    return [
        Row.of_medians(f"{name}, to a send to one", samples, reference="one", goal=1.5),
        Row(name=f"rows that a {name} writes", ours=rows, unit="rows", goal=1),
    ]


async def measure_subscribers(setting: Setting) -> list[Row]:
    """Compare a message for 1,000 sessions with one plain INSERT of as many rows, and count statements."""
    sessions = [f"session-{number:05}" for number in range(1_000)]
    async with fresh_database(setting.server_url) as url, streams_manager(url) as streams:
        await _prepare(streams, sessions)
        raw = await asyncpg.connect(url)
        await raw.execute(f"CREATE TABLE raw (LIKE {_MESSAGES} INCLUDING ALL)")
        number = 0

        async def insert() -> None:
            nonlocal number
            number += 1
            await raw.execute(_INSERT, sessions, number, _DATA)

        samples = await interleave(
            {"ours": timed(lambda: streams.send(sessions, _DATA)), "INSERT": timed(insert)},
            rounds=setting.rounds,
            calls=3,
            warm_up=3,
        )
        await raw.close()
        statements = await _statements_of_one_send(url, sessions)
    return [
        Row.of_medians("send to 1,000 subscribers, to INSERT … SELECT", samples, reference="INSERT", goal=3),
        Row(name="statements of that send", ours=statements, unit="statements", goal=1),
    ]


async def _prepare(streams: StreamSessionManager, sessions: Sequence[str]) -> None:
    for first in range(0, len(sessions), 100):
        await asyncio.gather(*(streams.prepare(id) for id in sessions[first : first + 100]))


async def _rows_of_one_broadcast(url: str, streams: StreamSessionManager) -> int:
    connection = await asyncpg.connect(url)
    try:
        before = await connection.fetchval(f"SELECT count(*) FROM {_MESSAGES}")
        await streams.send(None, _DATA)
        return await connection.fetchval(f"SELECT count(*) FROM {_MESSAGES}") - before
    finally:
        await connection.close()


async def _statements_of_one_send(url: str, sessions: Sequence[str]) -> int:
    async with wire(url) as counts, streams_manager(counts.url) as streams:
        await streams.send(sessions, _DATA)
        counts.reset()
        await streams.send(sessions, _DATA)
        return len(counts.executed)
