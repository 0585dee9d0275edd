"""Base classes for async context managers that call `aclose()` on exit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Closable", "Store"]


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


class Store(Closable):
    """A store that is opened, checked and closed, as every session manager is."""

    async def check(self) -> None:
        """Check that the store can be used now. The default checks nothing.

        Raises:
            ConfigurationError: A setting is wrong, or the tables are missing.
            StoreUnavailableError: The store cannot be reached now.

        """

    async def disconnect(self) -> None:
        """Close the connections that are not in use; they are opened again when they are needed."""

    async def aclose(self) -> None:
        """Close connections and end tasks. Idempotent; it cannot be used afterwards."""
