"""`make lambda-demo`: the zip of `sam build`, the official client on it, and what that takes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from local.lambda_demo import DEADLINE_SECONDS, SANDBOXES, function
from local.lambda_tour import tour
from local.template import Template
from tmcp_serverless.cli.lambda_emulator import LambdaEmulator

CONNECTIONS_OF_A_SANDBOX = 3
"""What template.yaml counts on: one that LISTENs, one of the kit's, one of the notes' own."""


@pytest.mark.slow
async def test_the_tour_goes_through_the_zip(
    built: Path, task_root: Path, database_url: str, tmp_path: Path
) -> None:
    template = Template(built, AccessTokens="open", DatabaseUrl="-")
    made = function(template, task_root, database_url=database_url, seconds=DEADLINE_SECONDS)
    told: list[str] = []
    with (tmp_path / "log").open("wb") as output:
        async with LambdaEmulator(
            made, sandboxes=SANDBOXES, front_door="rest-api", output=output.fileno(), say=told.append
        ) as emulator:
            counting = asyncio.create_task(most_backends(database_url))
            report = await tour(
                f"{emulator.url}/mcp",
                narrate=told.append,
                deadline_seconds=DEADLINE_SECONDS,
                sandboxes=lambda: len(emulator.sandboxes),
            )
            counting.cancel()
            sandboxes = max(int(name) for name in report.instances)
    assert [step.number for step in report.steps] == list(range(1, 9)), told
    assert len(report.instances) >= 3
    assert not [line for line in told if "Invocation" in line], "no invocation has failed"
    assert await result_of(counting) <= CONNECTIONS_OF_A_SANDBOX * sandboxes


async def most_backends(database_url: str) -> int:
    """Return how many connections there were at the most, without this one, until it is cancelled."""
    connection = await asyncpg.connect(database_url)
    most = 0
    try:
        while True:
            sql = (
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            most = max(most, await connection.fetchval(sql))
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        return most
    finally:
        await connection.close()


async def result_of(task: asyncio.Task[int]) -> int:
    async with asyncio.timeout(30):
        return await task
