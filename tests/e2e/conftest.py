"""The server that talks back, on three instances and with amnesia: one cluster of each for all tests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest

from tests.support.waiting import eventually
from tmcp_serverless.dev.cluster import Cluster
from tmcp_serverless.testing.postgres import create_database_sync

if TYPE_CHECKING:
    from collections.abc import Generator

CONVERSATION = f"{Path(__file__).with_name('conversation_server.py')}:handler"
DIARY = """CREATE TABLE diary (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run text NOT NULL, event text NOT NULL)"""
INSTANCES = 3
RETRY_MILLISECONDS = 200
"""How long clients wait before they connect again: the protocol's hint, shorter than by default."""


@dataclass(frozen=True)
class Conversation:
    """Where the server that talks back is, and what its tools have written into the diary."""

    cluster: Cluster
    database_url: str
    amnesia: bool

    @property
    def url(self) -> str:
        return f"{self.cluster.url}/mcp"

    async def diary(self, run: str) -> list[str]:
        connection = await asyncpg.connect(self.database_url)
        try:
            rows = await connection.fetch("SELECT event FROM diary WHERE run = $1 ORDER BY id", run)
        finally:
            await connection.close()
        return [row["event"] for row in rows]

    async def until_written(self, run: str, *events: str) -> None:
        """Wait until the diary has these events, and no others."""

        async def is_written() -> bool:
            return len(await self.diary(run)) >= len(events)

        await eventually(is_written)
        assert await self.diary(run) == [*events]


@pytest.fixture(scope="session", params=[False, True], ids=["remembering", "amnesia"])
def conversation(request: pytest.FixtureRequest, postgres_url: str) -> Generator[Conversation]:
    amnesia: bool = request.param
    url = create_database_sync(postgres_url, f"conversation_{uuid4().hex}")
    asyncio.run(_create_diary(url))
    with Cluster(
        CONVERSATION,
        instances=INSTANCES,
        database_url=url,
        amnesia=amnesia,
        env={"TMCP_RETRY_MILLISECONDS": str(RETRY_MILLISECONDS)},
    ) as cluster:
        yield Conversation(cluster, url, amnesia)


async def _create_diary(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(DIARY)
    finally:
        await connection.close()
