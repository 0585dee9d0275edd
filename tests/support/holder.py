"""A process that holds a stream: run with a DSN, a session id, and the lease and heartbeat in seconds.

It says `open` when it has the stream, then every event's data, then `closed` and the reason.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from tmcp_serverless import CloseReason, PostgresStreamSessionManager

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tmcp_serverless import StoredEvent


class Printer:
    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def opened(self, cursor: str) -> None:
        """Nothing to say."""

    async def write(self, events: Sequence[StoredEvent]) -> None:
        for event in events:
            print(event.data, flush=True)

    async def missed(self, count: int) -> None:
        print("missed", count, flush=True)

    def close(self, reason: CloseReason) -> None:
        print("closed", reason.value, flush=True)
        self.ended.set()


async def main(dsn: str, session: str, lease: str, heartbeat: str) -> None:
    async with PostgresStreamSessionManager(
        dsn, lease_seconds=float(lease), heartbeat_seconds=float(heartbeat)
    ) as streams:
        printer = Printer()
        await streams.create(session, printer)
        print("open", flush=True)
        await printer.ended.wait()
        await streams.release(session, printer)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
