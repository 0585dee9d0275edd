"""A standalone stream's cursor: its position in the session's mailbox and in the topic's."""

from __future__ import annotations

import re
from typing import NamedTuple, Self

from tmcp_serverless.errors import InvalidCursorError

__all__ = ["Cursor"]

_FORM = re.compile(r"(\d{1,18})\.(\d{1,18})")


class Cursor(NamedTuple):
    """The numbers of the last messages delivered: of the session's own mailbox, and of the topic."""

    own: int
    topic: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text that `str` wrote.

        Raises:
            InvalidCursorError: The text is not of that form.

        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise InvalidCursorError(f"not a cursor of this stream: {text[:64]!r}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.own}.{self.topic}"
