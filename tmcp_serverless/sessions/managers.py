"""The session managers that a server works over, together."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tmcp_serverless.closable import Closable, Store
from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.sessions.events import InMemoryEventTopic

if TYPE_CHECKING:
    from tmcp_serverless.sessions.events import EventTopic
    from tmcp_serverless.sessions.info import InfoSessionManager
    from tmcp_serverless.sessions.keys import KeyStore
    from tmcp_serverless.sessions.streams import StreamSessionManager

__all__ = ["SessionManagers", "SupportsAclose"]


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

    events: EventTopic | None = None
    """The topic of events; `None`: listen streams are told of the changes of their own process alone."""

    keys: KeyStore | None = None
    """The store of the key that request states are sealed with; `None`: `TMCP_REQUEST_STATE_KEYS` has it."""

    resources: tuple[SupportsAclose, ...] = ()
    """Resources to close after the managers, such as a `Database` that they share."""

    _own_events: InMemoryEventTopic = field(
        default_factory=InMemoryEventTopic, init=False, repr=False, compare=False
    )

    @property
    def topic(self) -> EventTopic:
        """The topic of events; without one, that of this object, in this process."""
        return self.events or self._own_events

    @property
    def _all(self) -> tuple[Store, ...]:
        optional = [each for each in (self.topic, self.keys) if isinstance(each, Store)]
        return (self.streams, self.info, *optional)

    @property
    def namespace(self) -> str | None:
        """The managers' part of the store; `None` if they have all of it.

        Raises:
            ConfigurationError: They are in several namespaces.

        """
        parts = (self.streams, self.info, self.events, self.keys)
        found = {getattr(each, "namespace", None) for each in parts} - {None}
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
