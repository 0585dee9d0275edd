"""What both session managers are beside what they do: something that is opened, checked and closed."""

from __future__ import annotations

from tmcp_serverless.closable import Closable

__all__ = ["SessionManager"]


class SessionManager(Closable):
    """A session manager: an asynchronous context manager over a store."""

    async def check(self) -> None:
        """Find out whether the store can be used now. The default has nothing that could be wrong.

        Raises:
            ConfigurationError: A setting is wrong, or the tables are missing.
            StoreUnavailableError: The store cannot be reached now.

        """

    async def disconnect(self) -> None:
        """Let go of connections that nobody uses now; they are opened again when they are needed."""

    async def aclose(self) -> None:
        """Let go of connections and tasks. Idempotent; the manager cannot be used afterwards."""
