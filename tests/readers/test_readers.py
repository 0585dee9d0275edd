"""Five deployed clients' readers on the tour: against instances that LISTEN, that poll, and functions."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.readers.rules import READERS
from tests.readers.tour import tour
from tmcp_serverless.dev.cluster import Cluster
from tmcp_serverless.dev.lambda_emulator import Function, LambdaEmulator

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.readers.rules import Rules

SERVER = Path(__file__).with_name("server.py")
RETRY = {"TMCP_RETRY_MILLISECONDS": "100"}


@asynccontextmanager
async def serving(mode: str, database_url: str) -> AsyncGenerator[str]:
    if mode == "lambda":
        environment = {"TMCP_DATABASE_URL": database_url, **RETRY}
        function = Function(
            "tests.readers.server.handler", SERVER.parents[2], timeout_seconds=120, environment=environment
        )
        async with LambdaEmulator(function) as emulator:
            yield f"http://127.0.0.1:{emulator.port}/mcp"
        return
    cluster = Cluster(
        f"{SERVER}:handler", instances=2, database_url=database_url, env={"TMCP_DOORBELL": mode, **RETRY}
    )
    with cluster:
        yield f"{cluster.url}/mcp"


@pytest.mark.parametrize("mode", ["listen", "poll", "lambda"])
async def test_every_reader_makes_the_tour(mode: str, database_url: str) -> None:
    # A sandbox has ten seconds to start, and two for each reader at once may take a small machine longer.
    turns = asyncio.Semaphore(1 if mode == "lambda" else len(READERS))

    async def make_tour(url: str, rules: type[Rules]) -> None:
        async with turns:
            await tour(url, rules)

    async with serving(mode, database_url) as url, asyncio.TaskGroup() as group:
        for rules in READERS:
            group.create_task(make_tour(url, rules), name=rules.__name__)
