"""Waiting for a condition, under a limit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["eventually"]


async def eventually(condition: Callable[[], Awaitable[Any]], *, seconds: float = 60.0) -> Any:
    """Wait until the condition returns something true, and return that."""
    async with asyncio.timeout(seconds):
        while True:
            found = await condition()
            if found:
                return found
            await asyncio.sleep(0.02)
