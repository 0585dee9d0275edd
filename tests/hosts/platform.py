"""The other side of the Runtime API, in the test's own process."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tmcp_serverless.cli.lambda_emulator.invocation import Failure, Invocation
from tmcp_serverless.cli.lambda_emulator.runtime_server import RuntimeServer
from tmcp_serverless.hosts.lambda_streaming.runtime_api import RuntimeApi
from tmcp_serverless.hosts.lambda_streaming.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["Platform", "framed", "running"]


class Platform:
    """The other side of the Runtime API."""

    def __init__(self) -> None:
        self.current: Invocation | None = None
        self.extensions = 0
        self.again = 0
        """How often an invocation was asked for while another had no answer."""

        self.idle = asyncio.Event()
        self._events: asyncio.Queue[Invocation] = asyncio.Queue()

    async def next(self) -> Invocation:
        """Hand the next invocation out; one without an answer again, as the Runtime API does, three times."""
        if self.current is not None and not self.current.ended:
            self.again += 1
            if self.again <= 3:
                return self.current
            self.current.end(Failure.of("Runtime.NoAnswer", "it was asked for again and again"))
        self.idle.set()
        self.current = await self._events.get()
        return self.current

    def initialization_failed(self, failure: Failure) -> None:
        raise AssertionError(failure)

    def extension_registered(self) -> None:
        self.extensions += 1

    async def invoke(self, event: Any, *, seconds: float = 30) -> Invocation:
        """Have an event answered; the whole answer can be read from the invocation."""
        invocation = Invocation(json.dumps(event).encode(), timeout_seconds=seconds)
        self.idle.clear()
        self._events.put_nowait(invocation)
        async with asyncio.timeout(30):
            await self.idle.wait()
        return invocation


@asynccontextmanager
async def running(handler: Any) -> AsyncGenerator[Platform]:
    platform = Platform()
    server = RuntimeServer(platform, handler="app.handler")
    address = await server.start()
    sandbox = asyncio.create_task(Sandbox(handler, RuntimeApi(address)).run())
    try:
        async with asyncio.timeout(30):
            await platform.idle.wait()
        yield platform
    finally:
        sandbox.cancel()
        await asyncio.gather(sandbox, return_exceptions=True)
        await server.aclose()


async def framed(invocation: Invocation) -> tuple[dict[str, Any], bytes]:
    """Take a streamed answer apart."""
    assert invocation.streamed
    assert invocation.content_type == "application/vnd.awslambda.http-integration-response"
    head, delimiter, body = (await invocation.whole()).partition(bytes(8))
    assert delimiter
    return json.loads(head), body
