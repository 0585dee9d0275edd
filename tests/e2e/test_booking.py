"""The booking examples, on MCPServer and on FastMCP: one source, asked by clients of both eras."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import mcp_types as types
import pytest
from mcp.client.subscriptions import ResourceUpdated

from tmcp_serverless.dev.cluster import Cluster
from tmcp_serverless.testing.postgres import create_database_sync

from .person import Person, text_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from mcp import Client

EXAMPLES = Path(__file__).parents[2] / "examples"
BOOKINGS = "bookings://all"
MODERN = "2026-07-28"

every_mode = pytest.mark.parametrize("mode", ["legacy", "auto", MODERN])


class Diner(Person):
    """Somebody who wants the table on a certain day, and is sure about it or not."""

    def __init__(self, day: str | None, *, sure: bool = True) -> None:
        super().__init__()
        self._day = day
        self._sure = sure

    @property
    def questions(self) -> list[str]:
        return [asked.message for asked in self.asked]

    async def _elicit(self, context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        del context
        self.asked.append(params)
        if self._day is None:
            return types.ElicitResult(action="decline")
        assert isinstance(params, types.ElicitRequestFormParams)
        # MCPServer and FastMCP make a form each in their way, but of one field both.
        [field] = params.requested_schema["properties"]
        value = self._day if params.message == "Which day?" else self._sure
        return types.ElicitResult(action="accept", content={field: value})


@pytest.fixture(scope="module", params=["booking", "booking_fastmcp"])
def example(request: pytest.FixtureRequest) -> str:
    return f"{EXAMPLES / request.param}.py:handler"


@pytest.fixture(scope="module", params=[False, True], ids=["remembering", "amnesia"])
def url(request: pytest.FixtureRequest, example: str, postgres_url: str) -> Generator[str]:
    database_url = create_database_sync(postgres_url, f"booking_{uuid4().hex}")
    with Cluster(example, instances=3, database_url=database_url, amnesia=request.param) as cluster:
        yield f"{cluster.url}/mcp"


async def book(client: Client, name: str, guests: int = 2) -> str:
    return text_of(await client.call_tool("book_table", {"name": name, "guests": guests}))


async def booked(client: Client) -> list[dict[str, Any]]:
    [content] = (await client.read_resource(BOOKINGS)).contents
    assert isinstance(content, types.TextResourceContents)
    return json.loads(content.text)


@every_mode
async def test_the_table_is_booked_once_after_both_questions(url: str, mode: str) -> None:
    day = {"legacy": "Monday", "auto": "Tuesday", MODERN: "Wednesday"}[mode]
    diner = Diner(day)
    async with diner.noting(url, mode=mode) as client:
        assert await book(client, mode) == f"{mode} has the table on {day}, for 2."
        assert diner.questions == ["Which day?", f"Book the table for 2 on {day}?"]
        own = [booking for booking in await booked(client) if booking["name"] == mode]
        assert own == [{"day": day, "name": mode, "guests": 2}]
    rounds = diner.instances("tools/call")
    assert len(rounds) == (1 if mode == "legacy" else 3)
    assert len({*rounds, *diner.instances("answer")}) >= 2


@every_mode
async def test_a_day_that_is_taken_is_not_asked_about_further(url: str, mode: str) -> None:
    async with Diner("Sunday").noting(url, mode=mode) as client:
        await book(client, "the first")
    diner = Diner("Sunday")
    async with diner.noting(url, mode=mode) as client:
        assert await book(client, "another") == "On Sunday the table is taken."
        assert diner.questions == ["Which day?"]


@every_mode
async def test_who_is_not_sure_books_nothing(url: str, mode: str) -> None:
    async with Diner("Thursday", sure=False).noting(url, mode=mode) as client:
        assert await book(client, mode) == "Nothing was booked."
    async with Diner(None).noting(url, mode=mode) as client:
        assert await book(client, mode) == "No day, no table."
        assert "Thursday" not in [booking["day"] for booking in await booked(client)]


async def test_a_listener_of_one_era_hears_what_a_client_of_the_other_books(url: str) -> None:
    legacy, modern = Diner("Friday"), Diner("Saturday")
    async with (
        legacy.noting(url, mode="legacy") as old,
        modern.noting(url, mode="auto") as new,
        new.listen(resource_subscriptions=[BOOKINGS]) as changes,
    ):
        await book(old, "old")
        assert await anext(changes) == ResourceUpdated(BOOKINGS)
        subscribe = types.SubscribeRequest(params=types.SubscribeRequestParams(uri=BOOKINGS))
        await old.session.send_request(subscribe, types.EmptyResult)
        await book(new, "new")
        await legacy.until(lambda: legacy.notifications("notifications/resources/updated"))
        assert {"Friday", "Saturday"} <= {booking["day"] for booking in await booked(old)}
