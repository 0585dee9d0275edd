"""An ASGI server between a client and an application, as strict as uvicorn, for tests of how answers end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Front", "Sent"]

Sent: TypeAlias = dict[str, Any]
"""An ASGI message that an application sends."""


class Front:
    """An ASGI server in front of an application: as strict as uvicorn, and as slow as it is told to be."""

    def __init__(self, app: Any, *, before: Callable[[str, Sent], Awaitable[None]] | None = None) -> None:
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.refused: list[Sent] = []
        self._app = app
        self._before = before

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.tasks.append(asyncio.current_task())
        begun = ended = False

        async def strictly(message: Sent) -> None:
            nonlocal begun, ended
            if ended or begun is (message["type"] == "http.response.start"):
                self.refused.append(message)
                raise RuntimeError(f"unexpected {message}")
            begun = True
            if self._before is not None:
                await self._before(scope["method"], message)
            ended = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        await self._app(scope, receive, strictly)
