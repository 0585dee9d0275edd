"""`TMCP_KEEP_CONNECTIONS=0`: no connection to the database is open while nothing is being served."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

__all__ = ["Serving"]


class Serving:
    """Context around everything that is served. It disconnects when the last of it has ended."""

    def __init__(self, disconnect: Callable[[], Awaitable[None]]) -> None:
        self._disconnect = disconnect
        self._under_way = 0

    async def __aenter__(self) -> None:
        self._under_way += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._under_way -= 1
        if not self._under_way:
            await self._disconnect()
