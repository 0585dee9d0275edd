"""From the start of a process to its first answered request."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.asgi import Client
from benchmarks.database import fresh_database
from benchmarks.row import Row
from benchmarks.samples import interleave
from benchmarks.setting import running_handler

if TYPE_CHECKING:
    from benchmarks.samples import Operation
    from benchmarks.setting import Setting

__all__ = ["measure_cold_start"]

_ROOT = Path(__file__).parent.parent
_BARE = "import mcp.server; print('ready', flush=True)"
_OURS = "from benchmarks.cold_process import answer_one_call; answer_one_call()"


async def measure_cold_start(setting: Setting) -> list[Row]:
    """Compare with a process that only imports `mcp.server`; the session exists already."""
    async with fresh_database(setting.server_url) as url:
        async with running_handler(url) as app:
            client = Client(app)
            await client.initialize()
        environment = {"BENCH_DATABASE_URL": url, "BENCH_SESSION_ID": client.session_id}
        samples = await interleave(
            {"import": _process(_BARE, {}), "ours": _process(_OURS, environment)},
            rounds=setting.size(max(11, setting.rounds // 4), 7),
            calls=1,
            warm_up=2,
        )
    row = Row.of_medians(
        "cold start to first answer, to `import mcp.server`",
        samples,
        reference="import",
        goal=1.25,
        unit="ms",
    )
    return [row]


def _process(program: str, environment: dict[str, str]) -> Operation:
    """Return what times a process from its start to its first line.

    It may keep what it has compiled: what is deployed is compiled, and so is the reference.
    """
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def run() -> float:
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=_ROOT,
            env={**compiled, **environment},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            seconds = time.perf_counter() - start
        assert line == "ready\n", line
        return seconds

    async def operation() -> float:
        return await asyncio.to_thread(run)

    return operation
