"""Removing stale leases, old messages and unused mailboxes."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from tmcp_serverless.sessions.addresses import random_sweep_start

if TYPE_CHECKING:
    from tmcp_serverless.postgres.database import Row
    from tmcp_serverless.postgres.statements import Statements

__all__ = ["Sweeper"]

_ALL = 1_000
"""A sweep with this limit or a larger one looks at everything."""

_WINDOW_ROWS = 10_000
_LOOKED_AT = 20
"""A smaller sweep looks at this many times its limit, on either side of a random key."""

_LAST = "\U0010ffff"
"""A text behind every key."""

_OWN_OF_TEN = 7
"""The number of smaller sweeps, out of ten, at a key within their own namespace."""


class Sweeper:
    """Sweeps one set of tables, in bounded statements.

    Args:
        tables: The tables to sweep.
        lease_seconds: The life of a lease that is not refreshed.
        retention_seconds: The time that messages are kept.
        unused_seconds: The time that a session's unused mailbox is kept.

    """

    def __init__(
        self, statements: Statements, *, lease_seconds: float, retention_seconds: float, unused_seconds: float
    ) -> None:
        self._statements = statements
        self._ages = (lease_seconds, retention_seconds, unused_seconds)
        self._place = ""
        """The next large sweep goes on behind this mailbox, so that a series of them visits each one once."""

    async def sweep(self, limit: int) -> int:
        """Remove at most `limit` stale leases, old messages and unused mailboxes each; return the number.

        A small sweep, such as the one with every new session, costs the same for any number of mailboxes. It
        looks at mailboxes around a random key, so that with time it comes to all of them: mostly in its own
        namespace, and at times at the ends of others, for those may have no server left to sweep them. A
        sweep of 1,000 or more goes on from the end of the last one. It has visited all if it removed fewer
        than the limit.
        """
        if limit < _ALL:
            near = _LOOKED_AT * limit
            row = await self._statement(limit, limit, self._random_start(), near, near)
            return sum(row[:3])
        leases = messages = mailboxes = 0
        start = place = self._place
        wrapped = False
        while messages < limit and not (wrapped and place >= start):
            left = limit - max(leases, mailboxes)
            row = await self._statement(left, limit - messages, place, _WINDOW_ROWS, 0)
            leases, messages, mailboxes = leases + row[0], messages + row[1], mailboxes + row[2]
            if max(leases, mailboxes) >= limit:
                break  # There may be more in this window.
            if row[3] is None and wrapped:
                break  # The mailbox that it began at has gone, and all behind it.
            wrapped = wrapped or row[3] is None
            place = row[3] or ""
        self._place = place
        return leases + messages + mailboxes

    def _random_start(self) -> str:
        space = self._statements.namespace
        if secrets.randbelow(10) < _OWN_OF_TEN:
            return space.key(random_sweep_start())
        # A namespace without a server lies beside a namespace with one, or at an end of the table.
        return secrets.choice((*space.bounds, "", _LAST, chr(32 + secrets.randbelow(95))))

    async def _statement(self, rows: int, messages: int, place: str, behind: int, before: int) -> Row:
        row = await self._statements.fetchrow(
            "sweep", *self._ages, rows, messages, place, behind, before, idempotent=True
        )
        assert row is not None  # noqa: S101 - the statement returns one row
        return row
