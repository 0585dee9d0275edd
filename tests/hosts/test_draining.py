"""The container's shutdown goes on whatever draining comes to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.support.waiting import eventually
from tmcp_serverless.hosts.container import DrainingServer, configure
from tmcp_serverless.testing._postmaster import free_port

if TYPE_CHECKING:
    import pytest


class Stubborn:
    """An application that cannot be drained."""

    def __init__(self) -> None:
        self.shut_down = False

    async def drain(self) -> None:
        raise RuntimeError("no way")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.shut_down = True
        await send({"type": "lifespan.shutdown.complete"})


async def test_an_application_that_cannot_be_drained_is_shut_down_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Stubborn()
    server = DrainingServer(configure(app, host="127.0.0.1", port=free_port(), log_config=None))
    serving = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    await eventually(started)
    server.should_exit = True
    await serving
    assert app.shut_down
    assert "draining failed" in caplog.text
