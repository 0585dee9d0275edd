"""Connection that LISTENs, for one caller at a time, and the subscribers of its channels."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.postgres.database import LISTENING_IDLE_SECONDS
from tmcp_serverless.postgres.failures import LOST_LINK
from tmcp_serverless.postgres.listen_probe import delivers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tmcp_serverless.postgres.database import Connection, Database, Row

__all__ = ["Listener", "Subscriber", "Subscribers", "Subscription", "close"]

logger = logging.getLogger(__name__)

_SETTINGS = f"""\
SELECT pg_catalog.set_config(name, value, false)
FROM (VALUES ('idle_session_timeout', '{LISTENING_IDLE_SECONDS * 1000:.0f}'),
    ('application_name', pg_catalog.left(pg_catalog.current_setting('application_name'), 50) || ' listen')
) AS wanted (name, value)
WHERE pg_catalog.current_setting(name, true) IS NOT NULL"""
"""The settings of the connection that LISTENs. By its name, operators and tests find it in pg_stat_activity.
Its idle timeout is set at the start of the connection; a pooler in session mode that refuses it there takes
it here.
"""

_UNLISTEN_SECONDS = 2.0
_CLOSE_SECONDS = 1.0


Subscriber: TypeAlias = "Callable[[bool], None]"
"""A callback: called with true for each notification of its channel, with false if some may be missing."""

Subscription: TypeAlias = "tuple[str, Subscriber]"
"""A channel, and a callback for its notifications."""


class Subscribers:
    """Callbacks by channel, for notifications."""

    def __init__(self) -> None:
        self._by_channel: dict[str, set[Subscriber]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_channel)

    def __contains__(self, channel: str) -> bool:
        return channel in self._by_channel

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._by_channel))

    def add(self, channel: str, subscriber: Subscriber) -> bool:
        """Add the subscriber; return true if it is the first of its channel."""
        first = channel not in self._by_channel
        self._by_channel.setdefault(channel, set()).add(subscriber)
        return first

    def forget(self, channel: str, subscriber: Subscriber) -> None:
        """Stop calling the subscriber."""
        subscribers = self._by_channel.get(channel)
        if subscribers is not None:
            subscribers.discard(subscriber)
            if not subscribers:
                del self._by_channel[channel]

    def clear(self) -> None:
        """Stop calling all subscribers."""
        self._by_channel.clear()

    def wake(self, channel: str) -> None:
        """Call the subscribers of one channel, after its notification."""
        for subscriber in self._by_channel.get(channel, ()):
            subscriber(True)

    def wake_all(self) -> None:
        """Call all subscribers, because some notifications may have been missed."""
        for subscribers in self._by_channel.values():
            for subscriber in subscribers:
                subscriber(False)


class Listener:
    """One connection, or none. The caller makes sure that only one task uses it at a time.

    Args:
        database: The database to connect to.
        heard: Called with the channel of every notification.
        lost: Called when the connection is found to be lost.
        limit_seconds: The longest time that LISTEN may take.

    """

    def __init__(
        self,
        database: Database,
        *,
        heard: Callable[[str], None],
        lost: Callable[[], None],
        limit_seconds: float,
    ) -> None:
        self._database = database
        self._heard = heard
        self._on_lost = lost
        self._limit_seconds = limit_seconds
        self._is_lost = False
        self.connection: Connection | None = None
        """The connection. It may have been lost."""

    @property
    def is_connected(self) -> bool:
        """True if there is a connection, and it has not been found to be lost."""
        return self.connection is not None and not self.connection.is_closed() and not self._is_lost

    async def open(self, channels: Iterable[str], *, on_trial: bool) -> bool:
        """Connect anew, and LISTEN to the channels. `channels` is read once there is a connection.

        Returns false, and keeps no connection, if it is on trial and notifications do not arrive.

        Raises:
            StoreUnavailableError: The database cannot be reached, or the connection was lost again.

        """
        self.terminate()
        connection = await self._database.connect(listen=True)
        connection.add_termination_listener(self._on_termination)
        self.connection, self._is_lost = connection, False
        try:
            if on_trial and not await delivers(self._database, connection):
                self.terminate()
                return False
            await connection.execute(_SETTINGS)
            await self.listen(*channels)
        except LOST_LINK as error:
            self.terminate()
            raise StoreUnavailableError(f"the connection that LISTENs was lost: {error!r}") from error
        except BaseException:
            # On cancellation too: no caller may find a connection that has not been tried.
            self.terminate()
            raise
        return True

    async def listen(self, *channels: str) -> None:
        """LISTEN to these channels. It holds when this returns.

        Raises:
            StoreUnavailableError: The connection is lost.

        """
        assert self.connection is not None  # noqa: S101 - every caller has connected
        try:
            async with asyncio.timeout(self._limit_seconds):
                await self.connection.listen(channels, self._on_notify)
        except LOST_LINK as error:
            self.lose()
            raise StoreUnavailableError(f"LISTEN failed: {error!r}") from error

    async def unlisten(self, *channels: str) -> None:
        """UNLISTEN these channels."""
        if self.connection is not None:
            try:
                async with asyncio.timeout(_UNLISTEN_SECONDS):
                    await self.connection.unlisten(channels)
            except LOST_LINK:
                self.lose()

    async def fetchrow(self, sql: str, *args: object) -> Row | None:
        """Run a statement and return its first row; `None` if it found nothing, or failed."""
        try:
            return await self.connection.fetchrow_prepared(sql, *args) if self.connection else None
        except LOST_LINK as error:
            logger.debug("the doorbell lost its connection: %r", error)
            self.lose()
        except asyncpg.PostgresError as error:
            logger.debug("a statement failed on the doorbell's connection: %r", error)
        return None

    def lose(self) -> None:
        """Mark the connection as lost."""
        self._is_lost = True
        self._on_lost()

    def terminate(self) -> None:
        """Drop the connection, if there is one, without waiting for the server."""
        if self.connection is not None:
            connection, self.connection = self.connection, None
            connection.terminate()

    def detach(self) -> Connection | None:
        """Return the connection for the caller to close, and keep none."""
        connection, self.connection = self.connection, None
        return connection

    def _on_notify(self, _connection: object, _pid: int, channel: str, _payload: object) -> None:
        self._heard(channel)

    def _on_termination(self, connection: object) -> None:
        if connection is self.connection:
            self.lose()


async def close(connection: Connection | None) -> None:
    """Close a connection, if there is one: gracefully, or at once if that fails or is cancelled."""
    if connection is not None:
        try:
            await connection.close(timeout=_CLOSE_SECONDS)
        except LOST_LINK:
            connection.terminate()
        except BaseException:
            connection.terminate()
            raise
