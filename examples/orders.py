"""A small orders service: everything that an MCP server can say, on processes that forget everything.

Run it on your machine with `make dev`, see it driven with `make demo`, deploy it as it is: Lambda calls
`handler`, uvicorn serves `app`. It is an ordinary server on the official SDK. Two habits make it fit for
functions, and there are no others to learn:

* data that has to last is in the database. Any request may be the first one that its process ever sees;
* news goes out through `handler.notifier`, because the clients it is for are connected to other processes.
"""

import json
import os
import time
import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import asyncpg
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.shared.exceptions import MCPDeprecationWarning, NoBackChannelError
from mcp_types import Completion, CompletionArgument, LoggingLevel, PromptReference, ResourceTemplateReference
from pydantic import BaseModel, Field

from tmcp_serverless import create_handler, replayable

# Log messages to the client are deprecated from 2026-07-28 on. Until then clients show them, so we send them.
warnings.filterwarnings("ignore", category=MCPDeprecationWarning)

LARGE = 100  # an order of more than this many gets a warning in the log
IDLE_SECONDS = 30
OPEN_ORDERS = "orders://open"
TABLE = """CREATE TABLE IF NOT EXISTS example_orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item text NOT NULL, quantity integer NOT NULL, status text NOT NULL DEFAULT 'open')"""


class Order(BaseModel):
    """One order. Tools that return it have an output schema, and clients get it as structured content."""

    id: int
    item: str
    quantity: int
    status: Literal["open", "shipped", "cancelled"] = "open"


class Confirmation(BaseModel):
    """What `cancel_order` asks the user. Only flat fields of simple types: the client makes a form of it."""

    sure: bool = Field(description="Really cancel this order?")


class OrderBook:
    """The orders, in Postgres. Only open connections stay in the process: it may vanish at any time."""

    @asynccontextmanager
    async def lifespan(self, _server: MCPServer[None]) -> AsyncGenerator[None]:
        """Make the pool, without a connection: the first query opens one, so a cold start is not slowed."""
        self._table_exists, self._last_used = False, time.time()
        dsn = os.environ["TMCP_DATABASE_URL"]  # maybe of a pooler, where prepared statements get lost
        async with asyncpg.create_pool(dsn, min_size=0, max_size=4, statement_cache_size=0) as self._pool:
            yield

    async def query(self, sql: str, *values: object) -> list[Order]:
        """Run one statement, and return its rows as orders."""
        if time.time() - self._last_used > IDLE_SECONDS:
            await self._pool.expire_connections()  # a function that was frozen finds its connections dead
        if not self._table_exists:  # IF NOT EXISTS alone fails when two fresh processes do it at once
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock(hashtext('example_orders'))")
                await connection.execute(TABLE)
            self._table_exists = True
        rows = await self._pool.fetch(sql, *values)
        self._last_used = time.time()
        return [Order.model_validate(dict(row)) for row in rows]


orders = OrderBook()
server = MCPServer(
    "orders",
    version="1.0.0",
    instructions="Place, list, ship and cancel orders. Subscribe to orders://open to see them change.",
    lifespan=orders.lifespan,
)


async def log(ctx: Context[None], level: LoggingLevel, text: str) -> None:
    """Send a log message to the client that made this request, if it wants that level."""
    await ctx.log(level, text)  # pyright: ignore[reportDeprecated]


async def announce(changed: list[Order]) -> None:
    """Tell every subscribed client that these orders changed, on any instance."""
    for uri in [OPEN_ORDERS, *(f"orders://{order.id}" for order in changed)]:
        await handler.notifier.resource_updated(uri)


@server.tool()
async def place_order(item: str, quantity: Annotated[int, Field(ge=1)] = 1) -> Order:
    """Place an order."""
    sql = "INSERT INTO example_orders (item, quantity) VALUES ($1, $2) RETURNING *"
    placed = await orders.query(sql, item, quantity)
    await announce(placed)
    return placed[0]


@server.tool()
async def list_orders() -> list[Order]:
    """List every order, newest first."""
    return await orders.query("SELECT * FROM example_orders ORDER BY id DESC LIMIT 100")


@server.tool()
async def ship_orders(ctx: Context[None]) -> list[Order]:
    """Ship every open order, one by one, and say how far it is."""
    waiting = await orders.query("SELECT * FROM example_orders WHERE status = 'open' ORDER BY id")
    shipped: list[Order] = []
    for done, order in enumerate(waiting, start=1):
        await log(ctx, "debug", f"packing order {order.id}")
        if order.quantity > LARGE:
            await log(ctx, "warning", f"order {order.id} is large: {order.quantity} of {order.item}")
        # Another process may be shipping too: only the first to update the row gets it.
        sql = "UPDATE example_orders SET status = 'shipped' WHERE id = $1 AND status = 'open' RETURNING *"
        shipped += await orders.query(sql, order.id)
        await log(ctx, "info", f"order {order.id} is on its way")
        await ctx.report_progress(done, len(waiting), f"{done} of {len(waiting)} shipped")
    if shipped:
        await announce(shipped)
    return shipped


@server.tool()
@replayable  # A client of 2026-07-28 calls again with its answer: what stands before the question only reads.
async def cancel_order(order_id: int, ctx: Context[None]) -> str:
    """Cancel an order, after asking the user."""
    found = await orders.query("SELECT * FROM example_orders WHERE id = $1 AND status = 'open'", order_id)
    if not found:
        raise ToolError(f"There is no open order {order_id}.")
    if ctx.client_capabilities is None or ctx.client_capabilities.elicitation is None:
        raise ToolError("Cancelling needs the user's consent, and this client cannot ask (no elicitation).")
    try:
        # The answer comes back as a request of its own, on any process, and is delivered to this line.
        answer = await ctx.elicit(f"Cancel {found[0].quantity} of {found[0].item}?", Confirmation)
    except NoBackChannelError as error:
        raise ToolError("Cancelling needs the user's consent, and no question can be asked here.") from error
    if answer.action != "accept" or not answer.data.sure:
        return f"Order {order_id} stays."
    sql = "UPDATE example_orders SET status = 'cancelled' WHERE id = $1 AND status = 'open' RETURNING *"
    cancelled = await orders.query(sql, order_id)
    if not cancelled:
        raise ToolError(f"Order {order_id} was shipped while you were thinking.")
    await announce(cancelled)
    return f"Order {order_id} is cancelled."


@server.tool()
async def announce_sale() -> str:
    """Tell every client to list the tools again."""
    await handler.notifier.tools_changed()  # a demonstration: say it when your tools really have changed
    return "Every client has been told."


@server.resource(OPEN_ORDERS, mime_type="application/json")
async def open_orders() -> str:
    """The orders that wait to be shipped."""
    found = await orders.query("SELECT * FROM example_orders WHERE status = 'open' ORDER BY id")
    return json.dumps([order.model_dump() for order in found])


@server.resource("orders://{order_id}", mime_type="application/json")
async def one_order(order_id: int) -> str:
    """One order, whatever its status."""
    found = await orders.query("SELECT * FROM example_orders WHERE id = $1", order_id)
    if not found:
        raise ResourceNotFoundError(f"There is no order {order_id}.")
    return found[0].model_dump_json()


@server.prompt()
async def dispatch_note(order_id: str) -> str:
    """Have the model write the note that goes into the parcel."""
    return f"Write a friendly dispatch note for this order: {await one_order(int(order_id))}"


@server.completion()
async def complete(
    _ref: PromptReference | ResourceTemplateReference, argument: CompletionArgument, _context: Any
) -> Completion | None:
    """Offer the ids of orders that begin with the user's input."""
    if argument.name != "order_id":
        return None
    sql = "SELECT * FROM example_orders WHERE starts_with(id::text, $1) ORDER BY id DESC LIMIT 100"
    found = await orders.query(sql, argument.value)
    return Completion(values=[str(order.id) for order in found])


handler = create_handler(server)  # Lambda: handler(event, context)
app = handler.app  # Cloud Run, uvicorn: an ASGI application
