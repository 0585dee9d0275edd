"""Writing to mailboxes: each message is one statement, and is committed when the call returns.

Messages of one process are committed in the order of the calls, mailbox by mailbox.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.sessions import Cursor, SendOrder
from tmcp_serverless.sessions.addresses import BROADCAST, EVENTS, kind_bounds
from tmcp_serverless.sessions.streams import full_inboxes, inbox_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tmcp_serverless.postgres.database import Row
    from tmcp_serverless.postgres.statements import Statements

__all__ = ["Mailboxes"]

logger = logging.getLogger(__name__)

_TRIM_EVERY = 64

_AWAY_SECONDS = 60.0
"""The time that an inbox without a lease is still written to: its process is frozen, or claims it again."""

_BATCH_MAILBOXES = 1_000
"""The mailboxes that one statement appends to."""


class Mailboxes:
    """Appends messages, and keeps mailboxes within their bounds.

    Args:
        statements: The statements of the tables with the mailboxes.
        lease_seconds: A stream is still rung for this time after its last refresh.
        retention_rows: The most messages that one mailbox keeps, give or take a few.
        retention_bytes: The most bytes that one mailbox keeps, give or take a few messages.
        inbox_bytes: The most bytes that a client's replies take in all inboxes of its session together.

    """

    def __init__(
        self,
        statements: Statements,
        *,
        lease_seconds: float,
        retention_rows: int,
        retention_bytes: int,
        inbox_bytes: int,
    ) -> None:
        self._inbox_bytes = inbox_bytes
        self._inbox_limits = [inbox_limits(inbox_bytes, early=early) for early in (False, True)]
        self._statements = statements
        self._lease_seconds = lease_seconds
        self._bounds = (retention_rows, retention_bytes)
        self._order = SendOrder()

    async def append(self, id: str, data: str) -> str:
        """Append to one mailbox, which is made if there is none, and return the message's cursor."""
        with self._order.take(id) as turn:
            await turn.come()
            row = await self._statements.fetchrow("deliver", id, data, self._lease_seconds, idempotent=False)
            if row is None:
                # It is the first message of its mailbox.
                row = await self._statements.fetchrow(
                    "append", id, data, self._lease_seconds, idempotent=False
                )
        assert row is not None  # noqa: S101 - the statement returns one row
        await self._trim_if_due(id, row)
        return str(Cursor(row[0], 0))

    async def append_bounded(self, id: str, address: str, data: str, *, siblings: int) -> str | None:
        """Append to a private mailbox within the bounds of its kind, and return the message's cursor.

        The result is `None` if there is none that is read, or `siblings` or more of its kind. With any
        `siblings` it need not be read.

        Raises:
            LimitReachedError: The mailboxes of its kind hold as much as they may.

        """
        low, high = map(self._statements.key, kind_bounds(address))
        name, last = ("deliver_early", siblings) if siblings else ("deliver_reply", _AWAY_SECONDS)
        with self._order.take(id) as turn:
            await turn.come()
            row = await self._statements.fetchrow(
                name,
                id,
                data,
                self._lease_seconds,
                low,
                high,
                *self._inbox_limits[siblings > 0],
                last,
                idempotent=False,
            )
        assert row is not None  # noqa: S101 - the statement returns one row
        number, is_full, _ = row
        if is_full:
            raise full_inboxes(self._inbox_bytes)
        return None if number is None else str(Cursor(number, 0))

    async def append_at(self, id: str, number: int, data: str) -> str:
        """Append to one mailbox at the number that its only writer gives, and return the message's cursor."""
        row = await self._statements.fetchrow(
            "append_at", id, number, data, self._lease_seconds, idempotent=True
        )
        await self._trim_if_due(id, row)
        return str(Cursor(number, 0))

    async def append_to_all(self, ids: Sequence[str], data: str) -> None:
        """Append the same message to several mailboxes, in batches; one that fails does not stop the others.

        Raises:
            StoreUnavailableError: A batch could not be stored.

        """
        failure: StoreUnavailableError | None = None
        for first in range(0, len(ids), _BATCH_MAILBOXES):
            try:
                await self._append_to_batch(ids[first : first + _BATCH_MAILBOXES], data)
            except StoreUnavailableError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    async def _append_to_batch(self, ids: Sequence[str], data: str) -> None:
        with self._order.take(*ids) as turn:
            await turn.come()
            row = await self._statements.fetchrow(
                "append_many", ids, data, self._lease_seconds, _TRIM_EVERY, idempotent=False
            )
        if row is not None and row[0]:
            await self._trim(row[0])

    async def delete(self, id: str) -> None:
        """Delete a session's leases, mailboxes and messages; if there are very many, in batches."""
        while (row := await self._statements.fetchrow("delete", id, idempotent=True)) and not row[0]:
            await self._statements.fetchrow("shrink", id, idempotent=True)

    async def broadcast(self, data: str) -> None:
        """Append to the topic of all sessions, and ring its channel."""
        await self._append_to_topic("broadcast", BROADCAST, data)

    async def publish(self, data: str) -> None:
        """Append to the topic of events, and ring its channel."""
        await self._append_to_topic("publish", EVENTS, data)

    async def _append_to_topic(self, statement: str, topic: str, data: str) -> None:
        await self._statements.ready()
        key = self._statements.key(topic)
        channel = self._statements.channel(key)
        with self._order.take(key) as turn:
            await turn.come()
            row = await self._statements.fetchrow(statement, data, channel, idempotent=False)
        await self._trim_if_due(key, row)

    async def _trim_if_due(self, id: str, appended: Row | None) -> None:
        if appended is not None and appended[0] % _TRIM_EVERY == 0:
            await self._trim([id])

    async def _trim(self, ids: Sequence[str]) -> None:
        """Trim mailboxes to their bounds. They are looked at once in a while, not at every message."""
        try:
            await self._statements.fetchrow("trim", ids, *self._bounds, idempotent=True)
        except StoreUnavailableError as error:
            # The message is committed, and its sender is not to send it again.
            logger.debug("mailboxes were not trimmed: %s", error)
