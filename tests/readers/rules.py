"""The rules by which five deployed clients read event streams and open them again.

Each class states the source that it follows. The rules are the clients' own, not the standard's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

__all__ = ["READERS", "AiSdk", "BrokenError", "Event", "Go", "Java", "Python", "Rules", "TypeScript"]


class BrokenError(Exception):
    """The client takes the stream for broken."""


@dataclass
class Event:
    """One event, as far as it has been read."""

    id: str | None = None
    name: str = ""
    data: str | None = None
    retry: int | None = None


class Rules:
    """One connection's parser, and what becomes of the connection."""

    resumes_posts: ClassVar[bool] = True
    """Whether the client opens the stream of an unanswered request again."""

    reopens: ClassVar[bool] = True
    """Whether the client opens its standalone stream again after the server has ended it."""

    reopens_when_cut: ClassVar[bool] = True
    """Whether it does so after an error of the connection."""

    def __init__(self) -> None:
        self.event = Event()
        self.last_id: str | None = None
        """What the client would resume from, of this connection."""

    def line(self, line: str) -> Event | None:
        """Take a line, and return the event that it ends."""
        if not line:
            return self.dispatch()
        if not line.startswith(":"):
            name, _, value = line.partition(":")
            self.field(name, value.removeprefix(" "))
        return None

    def field(self, name: str, value: str) -> None:
        """Take a field."""
        if name == "data":
            self.event.data = value if self.event.data is None else f"{self.event.data}\n{value}"
        elif name == "event":
            self.event.name = value
        elif name == "id":
            self.event.id = value
        elif name == "retry" and value.isdecimal():
            self.event.retry = int(value)

    def dispatch(self) -> Event | None:
        """End an event, and return it if the client sees it."""
        event, self.event = self.event, Event()
        return event

    def message(self, event: Event) -> Any:
        """Return the message of an event, `None` where it has none.

        Raises:
            BrokenError: The client cannot read it.

        """
        if event.id:
            self.last_id = event.id
        if not event.data or event.name not in ("", "message"):
            return None
        return decoded(event.data)

    @classmethod
    def progress(cls, before: str | None, now: str | None, ended: int) -> int:
        """Count the streams that ended in a row, and brought nothing new.

        Raises:
            BrokenError: The client has had enough of them.

        """
        del cls, before, now
        return ended


def decoded(data: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise BrokenError(f"no message: {data!r}") from error


class Python(Rules):
    """python-sdk 2.3: mcp/client/streamable_http.py, and httpx2/_sse.py, which follows httpx-sse.

    The lines are those of `str.splitlines`, as in the versions of httpx that most installations have. An id
    stays in force: from then on each empty line behind any field is an event.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pending = False
        self._id = ""

    def line(self, line: str) -> Event | None:
        if len(line.splitlines()) > 1:
            raise BrokenError(f"a line that is several: {line!r}")
        return super().line(line)

    def field(self, name: str, value: str) -> None:
        super().field(name, value)
        self._pending = True

    def dispatch(self) -> Event | None:
        event = super().dispatch()
        assert event is not None
        self._id = event.id if event.id is not None else self._id
        event.id = self._id
        pending, self._pending = self._pending, False
        return event if pending else None


class TypeScript(Rules):
    """typescript-sdk 1.32: client/streamableHttp.ts, and eventsource-parser 3: src/parse.ts.

    An event without data is not seen, and its id is forgotten.
    """

    def dispatch(self) -> Event | None:
        event = super().dispatch()
        return event if event is not None and event.data is not None else None


class Java(Rules):
    """java-sdk: client/transport/ResponseSubscribers.java, HttpClientStreamableHttpTransport.java.

    Lines are read on demand: 256 at first, and one more for each field, comment and event. An empty line that
    ends no event renews nothing. Any other line is an error. No stream is opened again.
    """

    resumes_posts = False
    reopens = False
    reopens_when_cut = False
    demand = 256

    def line(self, line: str) -> Event | None:
        if self.demand == 0:
            raise BrokenError("it reads no more, for nothing has renewed its demand")
        if line and not line.startswith(("data:", "id:", "event:", ":")):
            raise BrokenError(f"Invalid SSE response: {line!r}")
        if any(character in line for character in "\u0085\u2028\u2029"):
            raise BrokenError(f"a value that is cut: {line!r}")
        event = super().line(line)
        self.demand -= 0 if line or event is not None else 1
        return event

    def dispatch(self) -> Event | None:
        kept = Event(self.event.id, self.event.name)  # The id and the type stay in force.
        event = super().dispatch()
        self.event = kept
        return event if event is not None and event.data is not None else None


class Go(Rules):
    """go-sdk 1.x: mcp/event.go (scanEvents) and mcp/streamable.go (processStream, handleSSE).

    A line without a colon, or of more than 1 MiB, ends the session, and so does a message that is none. So do
    more than five streams in a row that end without an id that is new.
    """

    most_retries = 5

    def line(self, line: str) -> Event | None:
        if (line and ":" not in line) or len(line.encode()) > 1024 * 1024:
            raise BrokenError(f"malformed line in SSE stream: {line[:80]!r}")
        return super().line(line)

    def dispatch(self) -> Event | None:
        event = super().dispatch()
        return event if event is not None and (event.id or event.name or event.data) else None

    @classmethod
    def progress(cls, before: str | None, now: str | None, ended: int) -> int:
        if now and now != before:
            return 0
        if ended + 1 > cls.most_retries:
            raise BrokenError(f"exceeded {cls.most_retries} retries without progress")
        return ended + 1


class AiSdk(TypeScript):
    """@ai-sdk/mcp: packages/mcp/src/tool/mcp-http-transport.ts, and eventsource-parser.

    Only `event: message` is read, whatever data it has. A stream that ends is over; the standalone one is
    opened again after an error.
    """

    resumes_posts = False
    reopens = False

    def message(self, event: Event) -> Any:
        if event.id:
            self.last_id = event.id
        return decoded(event.data or "") if event.name == "message" else None


READERS: tuple[type[Rules], ...] = (Python, TypeScript, Java, Go, AiSdk)
