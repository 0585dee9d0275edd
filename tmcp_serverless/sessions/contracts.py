"""The contracts that the transports work over: live streams, and the data that survive between requests.

The nouns and verbs are those of TMCP's `session-manager` packages. A subclass that has only the abstract
methods works in every transport. The other methods have defaults over these. They exist so that a store can
do in one round trip the work that takes the defaults several.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tmcp_serverless.closable import Closable
from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.sessions.info_manager import InfoSessionManager
from tmcp_serverless.sessions.manager import SessionManager
from tmcp_serverless.sessions.stream_manager import StreamSessionManager

if TYPE_CHECKING:
    from tmcp_serverless.sessions.keys import KeyStore

__all__ = ["InfoSessionManager", "SessionManagers", "StreamSessionManager", "SupportsAclose"]


class SupportsAclose(Protocol):
    """An object that is closed by awaiting `aclose`."""

    async def aclose(self) -> None:
        """Close it."""
        ...


@dataclass(frozen=True, slots=True)
class SessionManagers(Closable):
    """The managers that transports work over. They may share a database, or use several.

    A manager closes the connections that it has opened, and not a `Database` that it was given. The maker of
    the `Database` closes it, or names it in `resources`. An asynchronous context manager that closes all of
    these.
    """

    streams: StreamSessionManager
    info: InfoSessionManager

    keys: KeyStore | None = None
    """The store of the key that request states are sealed with; `None`: `TMCP_REQUEST_STATE_KEYS` has it."""

    resources: tuple[SupportsAclose, ...] = ()
    """Resources to close after the managers, such as a `Database` that they share."""

    @property
    def _all(self) -> tuple[SessionManager, ...]:
        keys = (self.keys,) if isinstance(self.keys, SessionManager) else ()
        return (self.streams, self.info, *keys)

    @property
    def namespace(self) -> str | None:
        """The managers' part of the store; `None` if they have all of it.

        Raises:
            ConfigurationError: They are in several namespaces.

        """
        found = {getattr(each, "namespace", None) for each in (self.streams, self.info, self.keys)} - {None}
        if len(found) > 1:
            raise ConfigurationError(
                f"the session managers are in several namespaces: {sorted(map(repr, found))}"
            )
        return found.pop() if found else None

    async def check(self) -> None:
        """Check that all can be used now.

        Raises:
            ConfigurationError: A setting is wrong, or the tables are missing.
            StoreUnavailableError: A store cannot be reached now.

        """
        for each in self._all:
            await each.check()

    async def disconnect(self) -> None:
        """Close the connections that are idle now."""
        async with AsyncExitStack() as stack:
            for each in reversed(self._all):
                stack.push_async_callback(each.disconnect)

    async def aclose(self) -> None:
        """Close the managers, and then the resources that they share."""
        async with AsyncExitStack() as stack:
            for each in (*reversed(self.resources), *reversed(self._all)):
                stack.push_async_callback(each.aclose)
