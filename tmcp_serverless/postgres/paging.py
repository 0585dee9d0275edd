"""Pages for streams, made from rows, and the cursors behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tmcp_serverless.sessions import Cursor, Page, StoredEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tmcp_serverless.postgres.database import Row

__all__ = ["PAGE_BYTES", "PAGE_ROWS", "page_of"]

PAGE_ROWS = 64
PAGE_BYTES = 262_144
"""The end of a page of either mailbox, as in the statements: after so many rows, or with the message that
takes it to so many bytes. A page has to arrive within the time that a statement may take.
"""


class _Part:
    """The part of a page that comes from one mailbox."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.rows = self.missed = self.bytes = 0

    def add(self, number: int, bytes: int) -> None:
        self.rows += 1
        self.bytes = bytes
        self._move(number - 1)
        self.place = number

    @property
    def is_full(self) -> bool:
        return self.rows == PAGE_ROWS or self.bytes >= PAGE_BYTES

    def end(self, last: int | None) -> None:
        """Count missing messages up to `last` as expired, if the page had room for them."""
        if last is not None and not self.is_full and self.place < last:
            self._move(last)

    def _move(self, place: int) -> None:
        self.missed += place - self.place
        self.place = place


def page_of(rows: Sequence[Row], cursor: Cursor) -> tuple[Page, Cursor]:
    """Return the page with the rows' messages, and the cursor behind it.

    Numbers have no gaps: a message that is missing, between the rows or up to the last number, has expired.

    Args:
        rows: `(own number, topic's number, data, bytes of this mailbox so far, last own, last of the topic)`.
            Each row has one of the two numbers; an empty page is one row with the first four null. The last
            two are the mailboxes' last numbers when the page was read, null if there is no such mailbox.
        cursor: The stream's cursor before the page.

    """
    own, topic = _Part(cursor.own), _Part(cursor.topic)
    events: list[StoredEvent] = []
    for own_number, topic_number, data, bytes, *_ in rows:
        if own_number is not None:
            own.add(own_number, bytes)
        elif topic_number is not None:
            topic.add(topic_number, bytes)
        else:
            break
        events.append(StoredEvent(data, str(Cursor(own.place, topic.place))))
    own.end(rows[0][4])
    topic.end(rows[0][5])
    page = Page(events, more=own.is_full or topic.is_full, missed=own.missed + topic.missed)
    return page, Cursor(own.place, topic.place)
