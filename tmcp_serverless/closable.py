"""Base class for async context managers that call `aclose()` on exit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Closable"]


class Closable:
    """An asynchronous context manager that calls `aclose()` on exit."""

    async def aclose(self) -> None:
        """Close everything that was opened. Idempotent."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
