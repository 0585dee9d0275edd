"""The official TypeScript clients, both generations, on a tour through instances that come and go."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from .cutting import Cutter
from .node import FOLDER, packages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .conftest import Conversation

LIMIT_SECONDS = 120


@pytest.fixture(scope="module")
def node() -> str:
    return packages()


@pytest.mark.parametrize("generation", ["v1", "v2"])
async def test_every_feature_works_for_a_typescript_client(
    conversation: Conversation, node: str, generation: str
) -> None:
    run = uuid4().hex
    async with asyncio.timeout(LIMIT_SECONDS), Cutter(conversation.url) as cutter:
        taken = [line async for line in script(cutter, node, "tour.mjs", generation, cutter.url, run)]
    assert [line for line in taken if "failed" in line] == []
    assert taken[-1]["step"] == "terminateSession", taken
    assert cutter.cuts == 3
    await conversation.until_written(f"{run} cut", "started", "finished")
    await conversation.until_written(f"{run} cancel", "started", "cancelled")


@pytest.mark.parametrize("mode", ["auto", "pin"])
async def test_every_feature_of_the_modern_era_works_for_the_typescript_client_that_has_it(
    conversation: Conversation, node: str, mode: str
) -> None:
    """Generation 2 has it where it is asked to; generation 1 ends with 2025-11-25."""
    run = uuid4().hex
    async with asyncio.timeout(LIMIT_SECONDS), Cutter(conversation.url) as cutter:
        arguments = "v2", cutter.url, run, mode
        taken = [line async for line in script(cutter, node, "modern.mjs", *arguments)]
    assert [line for line in taken if "failed" in line] == []
    assert taken[0]["outcome"] == "2026-07-28"
    assert taken[-1]["step"] == "served by", taken
    assert taken[-1]["outcome"] >= 3
    await conversation.until_written(f"{run} cancel", "started", "cancelled")


ERROR = "an error that ends a stream leaves the client in peace"
TWO_CUTS = "a question is open during two cuts"


@pytest.mark.parametrize(
    ("generation", "step"),
    [
        pytest.param("v1", ERROR, id="v1-error"),
        pytest.param("v2", ERROR, id="v2-error"),
        pytest.param("v1", TWO_CUTS, id="v1-two-cuts"),
        pytest.param("v2", TWO_CUTS, id="v2-two-cuts"),
    ],
)
async def test_what_is_hard_on_a_typescript_client_is_not(
    conversation: Conversation, node: str, generation: str, step: str
) -> None:
    async with asyncio.timeout(LIMIT_SECONDS), Cutter(conversation.url) as cutter:
        arguments = generation, cutter.url, uuid4().hex, step
        taken = [line async for line in script(cutter, node, "stubborn.mjs", *arguments)]
    assert [line["step"] for line in taken if "failed" not in line] == [step], taken


async def script(cutter: Cutter, node: str, *arguments: str) -> AsyncGenerator[dict[str, Any]]:
    """Run a script, give it the cuts that it asks for, and yield the other lines that it prints."""
    process = await asyncio.create_subprocess_exec(
        node,
        *arguments,
        cwd=FOLDER,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async for text in process.stdout:
            line = json.loads(text)
            if line.get("do") == "cut":
                await cutter.cut()
                process.stdin.write(b"done\n")
            else:
                print(line)
                yield line
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
