"""Removing what nobody will read any more from leases, messages and mailboxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tmcp_serverless.sessions.ids import random_sweep_start

if TYPE_CHECKING:
    from datetime import timedelta

    from tmcp_serverless.postgres.tables import Tables

__all__ = ["sweep_streams"]

_ALL = 1_000
"""From this limit on a sweep looks at everything."""

_WINDOW_ROWS = 10_000
_LOOKED_AT = 20
"""At how many times its limit a smaller sweep looks, on either side of a random place."""


async def sweep_streams(
    tables: Tables, *, lease: timedelta, retention: timedelta, unused: timedelta, limit: int
) -> int:
    """Remove at most `limit` stale leases, old messages and unused mailboxes each; return how many went.

    A small sweep, such as comes with every new session, costs the same however many mailboxes there are: it
    looks at those around a random place, so that with time it comes to all of them. One of 1,000 or more
    visits all, in statements that are bounded.
    """
    ages = (lease, retention, unused)
    if limit < _ALL:
        near = _LOOKED_AT * limit
        row = await tables.fetchrow(
            "sweep", *ages, limit, limit, random_sweep_start(), near, near, idempotent=True
        )
        return sum(row[:3]) if row else 0
    leases = messages = mailboxes = 0
    place: str | None = ""
    while place is not None and max(leases, mailboxes) < limit:
        left = limit - max(leases, mailboxes)
        row = await tables.fetchrow(
            "sweep", *ages, left, limit - messages, place, _WINDOW_ROWS, 0, idempotent=True
        )
        assert row is not None  # noqa: S101 - the statement returns one row
        leases, messages, mailboxes = leases + row[0], messages + row[1], mailboxes + row[2]
        place = row[3]
    return leases + messages + mailboxes
