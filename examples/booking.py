"""A restaurant with one table: a tool that asks its client, written once for clients of both eras.

A client of 2025-11-25 or before is asked while the tool runs. A client of 2026-07-28 is not: the question is
the result of its call, and it calls again with the answer, on any instance. Then `@replayable` runs the tool
again from the start, and `ctx.elicit` returns earlier answers at once. Three rules follow:

* code before a question runs again each time, so it only reads;
* a question is made of the arguments and of earlier answers, so that it is the same each time;
* the tool acts after its last question, and so that acting again changes nothing.

`booking_fastmcp.py` is the same on FastMCP, `orders.py` a larger server that keeps its connections.
"""

import json
import os
from typing import Annotated, Any

import asyncpg
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from pydantic import BaseModel, Field

from tmcp_serverless import create_handler, replayable

BOOKINGS = "bookings://all"
TABLE = """CREATE TABLE IF NOT EXISTS example_bookings (
    day text PRIMARY KEY, name text NOT NULL, guests integer NOT NULL)"""
BOOK = """INSERT INTO example_bookings (day, name, guests) VALUES ($1, $2, $3)
    ON CONFLICT (day) DO UPDATE SET guests = excluded.guests WHERE example_bookings.name = excluded.name
    RETURNING day"""

server = MCPServer("booking", instructions="Book the table. Its bookings are the resource bookings://all.")


class Day(BaseModel):
    """What is asked first."""

    day: str = Field(description="A day of the week")


class Consent(BaseModel):
    """What is asked then."""

    sure: bool = Field(description="Book the table?")


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


@server.tool()
@replayable
async def book_table(name: str, guests: Annotated[int, Field(ge=1, le=6)], ctx: Context) -> str:
    """Book the table, after asking for the day and for consent."""
    wish = await ctx.elicit("Which day?", Day)
    if wish.action != "accept":
        return "No day, no table."
    day = wish.data.day.capitalize()
    if await query("SELECT 1 FROM example_bookings WHERE day = $1 AND name <> $2", day, name):
        return f"On {day} the table is taken."
    answer = await ctx.elicit(f"Book the table for {guests} on {day}?", Consent)
    if answer.action != "accept" or not answer.data.sure:
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
