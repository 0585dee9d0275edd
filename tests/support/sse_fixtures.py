"""Three instances, and a session of HTTP+SSE whose posts go to all of them in turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.client import initialize_params
from tests.support.sse_client import OLDEST, SseClient
from tests.support.talkative import CAPABILITIES, Stage, talkative_server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.support.fixtures import NewHandler
    from tmcp_serverless import Handler

__all__ = ["INITIALIZE", "PING", "client", "handlers", "stage"]

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
INITIALIZE = initialize_params(protocolVersion=OLDEST)


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def handlers(new_handler: NewHandler, stage: Stage) -> list[Handler]:
    """Three instances."""
    return [new_handler(talkative_server(stage)) for _ in range(3)]


@pytest.fixture
async def client(handlers: list[Handler]) -> AsyncGenerator[SseClient]:
    """A session whose stream is on one instance, and whose posts go to all three in turns."""
    async with SseClient(*(handler.app for handler in handlers)) as client:
        yield await client.initialize(capabilities=CAPABILITIES)
