"""A process that holds connections, and is to be stopped: run with a DSN and the idle time in seconds."""

from __future__ import annotations

import asyncio
import sys

from tmcp_serverless import Database


async def main(dsn: str, idle_seconds: str) -> None:
    database = Database(dsn, idle_seconds=float(idle_seconds))
    await asyncio.gather(*(database.fetch("SELECT pg_sleep(0.1)", idempotent=True) for _ in range(3)))
    print("holding", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        found = await database.fetch("SELECT 'answered'", idempotent=True)
        print(found[0][0], flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
