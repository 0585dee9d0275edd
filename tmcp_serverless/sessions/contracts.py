"""The contracts that the transports work over: live streams, and what survives between requests.

The nouns and verbs are those of TMCP's `session-manager` packages. A subclass that has only the abstract
methods works in every transport; the other methods have defaults over these, and exist so that a store can
do in one round trip what the defaults do in several.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

from tmcp_serverless.closable import Closable
from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.sessions.info_manager import InfoSessionManager
from tmcp_serverless.sessions.stream_manager import StreamSessionManager

__all__ = ["InfoSessionManager", "SessionManagers", "StreamSessionManager", "SupportsAclose"]


class SupportsAclose(Protocol):
    """Something that is closed by awaiting `aclose`."""

    async def aclose(self) -> None:
        """Close it."""
        ...


@dataclass(frozen=True, slots=True)
class SessionManagers(Closable):
    """The two managers that a transport works over. They may share a database, or use two.

    A manager closes the connections that it has opened, and not a `Database` that it was given: whoever made
    that closes it, or names it in `resources`. An asynchronous context manager that closes all of it.
    """

    streams: StreamSessionManager
    info: InfoSessionManager

    resources: tuple[SupportsAclose, ...] = ()
    """What is to be closed after both, such as a `Database` that they share."""

    @property
    def namespace(self) -> str | None:
        """The part of the store that is theirs; `None` where they have all of it.

        Raises:
            ConfigurationError: They have two.

        """
        found = {getattr(each, "namespace", None) for each in (self.streams, self.info)} - {None}
        if len(found) > 1:
            raise ConfigurationError(
                f"the session managers are in two namespaces: {sorted(map(repr, found))}"
            )
        return found.pop() if found else None

    async def check(self) -> None:
        """Find out whether both can be used now.

        Raises:
            ConfigurationError: A setting is wrong, or the tables are missing.
            StoreUnavailableError: A store cannot be reached now.

        """
        await self.streams.check()
        await self.info.check()

    async def disconnect(self) -> None:
        """Let go of the connections that nobody uses now."""
        try:
            await self.streams.disconnect()
        finally:
            await self.info.disconnect()

    async def aclose(self) -> None:
        """Close both, and then what they share."""
        async with AsyncExitStack() as stack:
            for each in (*reversed(self.resources), self.info, self.streams):
                stack.push_async_callback(each.aclose)
