"""`booking.py` on FastMCP: the same tool, with questions to clients of both eras by `ctx.elicit`.

FastMCP itself refuses `ctx.elicit` to clients of 2026-07-28. With `@replayable` the kit asks them by way of
the tool's result, and runs the tool again with the answers. `booking.py` names the rules for such a tool.
"""

import json
import os
from typing import Annotated, Any

import asyncpg
from fastmcp import Context, FastMCP
from pydantic import Field

from tmcp_serverless import create_handler, replayable

BOOKINGS = "bookings://all"
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
TABLE = """CREATE TABLE IF NOT EXISTS example_bookings (
    day text PRIMARY KEY, name text NOT NULL, guests integer NOT NULL)"""
BOOK = """INSERT INTO example_bookings (day, name, guests) VALUES ($1, $2, $3)
    ON CONFLICT (day) DO UPDATE SET guests = excluded.guests WHERE example_bookings.name = excluded.name
    RETURNING day"""

server = FastMCP("booking", instructions="Book the table. Its bookings are the resource bookings://all.")


async def query(sql: str, *values: object) -> list[dict[str, Any]]:
    """Run one statement on a connection of its own, and return its rows."""
    connection = await asyncpg.connect(os.environ["TMCP_DATABASE_URL"])
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('example_bookings'))")
            await connection.execute(TABLE)
            return [dict(row) for row in await connection.fetch(sql, *values)]
    finally:
        await connection.close()


@server.tool
@replayable
async def book_table(name: str, guests: Annotated[int, Field(ge=1, le=6)], ctx: Context) -> str:
    """Book the table, after asking for the day and for consent."""
    wish = await ctx.elicit("Which day?", DAYS)
    if wish.action != "accept":
        return "No day, no table."
    day = wish.data
    if await query("SELECT 1 FROM example_bookings WHERE day = $1 AND name <> $2", day, name):
        return f"On {day} the table is taken."
    answer = await ctx.elicit(f"Book the table for {guests} on {day}?", bool)
    if answer.action != "accept" or not answer.data:
        return "Nothing was booked."
    if not await query(BOOK, day, name, guests):
        return f"On {day} the table is taken."  # while the client was thinking
    await handler.notifier.resource_updated(BOOKINGS)
    return f"{name} has the table on {day}, for {guests}."


@server.resource(BOOKINGS, mime_type="application/json")
async def bookings() -> str:
    """Who has the table when."""
    return json.dumps(await query("SELECT day, name, guests FROM example_bookings ORDER BY day"))


handler = create_handler(server)  # Lambda: handler(event, context)
app = handler.app  # Cloud Run, uvicorn: an ASGI application
