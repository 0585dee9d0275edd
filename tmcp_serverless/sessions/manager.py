"""Base class of session managers: a store that is opened, checked and closed."""

from __future__ import annotations

from tmcp_serverless.closable import Closable

__all__ = ["SessionManager"]


class SessionManager(Closable):
    """A session manager: an asynchronous context manager over a store."""

    async def check(self) -> None:
        """Check that the store can be used now. The default checks nothing.

        Raises:
            ConfigurationError: A setting is wrong, or the tables are missing.
            StoreUnavailableError: The store cannot be reached now.

        """

    async def disconnect(self) -> None:
        """Close the connections that are not in use; they are opened again when they are needed."""

    async def aclose(self) -> None:
        """Close connections and end tasks. Idempotent; the manager cannot be used afterwards."""
