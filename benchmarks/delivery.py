"""From a send on one instance to the bytes on another instance's SSE stream."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from benchmarks.asgi import Client
from benchmarks.bare import bare_delivery, bare_notify
from benchmarks.database import fresh_database
from benchmarks.row import Row
from benchmarks.samples import interleave
from benchmarks.setting import running_handler, sending, streams_manager

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from benchmarks.samples import Operation
    from benchmarks.setting import Setting

__all__ = ["measure_delivery"]


async def measure_delivery(setting: Setting) -> list[Row]:
    """Compare with a raw `pg_notify` and its callback, with durable commits and without."""
    return [
        *await _measure(setting, "send on A → bytes on B's SSE stream, durable", durable=True, goal=4),
        *await _measure(setting, "the same, synchronous_commit=off", durable=False, goal=1.6),
    ]


async def _measure(setting: Setting, name: str, *, durable: bool, goal: float) -> list[Row]:
    async with (
        fresh_database(setting.server_url, durable=durable) as url,
        bare_notify(url) as notify,
        bare_delivery(url) as bare,
        _send_and_receive(url) as send,
    ):
        samples = await interleave(
            {"pg_notify": notify, "bare": bare, "ours": send}, rounds=setting.rounds, calls=50, warm_up=100
        )
    return [
        Row.of_medians(name, samples, reference="pg_notify", goal=goal),
        Row.of_medians("… INSERT, NOTIFY and SELECT alone", samples, ours="bare", reference="pg_notify"),
    ]


@asynccontextmanager
async def _send_and_receive(url: str) -> AsyncGenerator[Operation]:
    """Yield what sends with one instance's manager, and ends in the other instance's response."""
    async with running_handler(url) as app, streams_manager(url) as elsewhere:
        client = Client(app)
        await client.initialize()
        stream = await client.listen()
        yield sending(elsewhere, client.session_id, stream)
        await stream.aclose()
