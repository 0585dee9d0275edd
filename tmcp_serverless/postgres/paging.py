"""From rows to the page that a stream is given, and the cursor behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tmcp_serverless.sessions.pump import Page
from tmcp_serverless.sessions.records import StoredEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tmcp_serverless.postgres.database import Row
    from tmcp_serverless.sessions.cursors import Cursor

__all__ = ["PAGE_ROWS", "page_of"]

PAGE_ROWS = 64
"""How many rows of each mailbox one read brings at the most."""


def page_of(rows: Iterable[Row], cursor: Cursor, *, last: Cursor) -> tuple[Page, Cursor]:
    """Return what the rows hold, and the cursor behind them.

    Numbers have no gaps: what is not there, between the rows or up to `last`, has expired.

    Args:
        rows: `(own number, topic's number, data)`, one number of the two; or all null for an empty page.
        cursor: Where the stream was.
        last: What both mailboxes had reached when the stream was claimed.

    """
    events: list[StoredEvent] = []
    missed = own_rows = topic_rows = 0
    for own, topic, data in rows:
        if own is not None:
            own_rows += 1
            missed += own - cursor.own - 1
            cursor = cursor._replace(own=own)
        elif topic is not None:
            topic_rows += 1
            missed += topic - cursor.topic - 1
            cursor = cursor._replace(topic=topic)
        else:
            break
        events.append(StoredEvent(data, str(cursor)))
    if own_rows < PAGE_ROWS and cursor.own < last.own:
        missed += last.own - cursor.own
        cursor = cursor._replace(own=last.own)
    if topic_rows < PAGE_ROWS and cursor.topic < last.topic:
        missed += last.topic - cursor.topic
        cursor = cursor._replace(topic=last.topic)
    return Page(events, more=PAGE_ROWS in (own_rows, topic_rows), missed=missed), cursor
