"""Names of a running request's parts: its inbox, its stream, its server requests.

All of them lie within the request's session. An address is a mailbox of the session of the client that
presents the name, so no name that a client sends can lead into another session.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets
from typing import Any, NamedTuple

from tmcp_serverless.sessions.addresses import private_mailbox

__all__ = [
    "EventId",
    "StandaloneId",
    "inbox_of",
    "inbox_of_question",
    "new_connection",
    "new_question_id",
    "new_run",
    "request_id_of",
    "request_name",
    "same_id_as_other_type",
]

_LONGEST_ID_BYTES = 48
_QUESTION = re.compile(r"([rhn][A-Za-z0-9_-]{1,80})\.[0-9a-f]{24}")
_EVENT = re.compile(r"([rh][A-Za-z0-9_-]{1,80})\.([0-9a-f]{12}):([0-9A-Za-z._-]{1,64})(?:@[0-9a-f]{8})?(~?)")
_STANDALONE = re.compile(r"([^@]*)@(\+?)[0-9a-f]{8}")


def request_name(request_id: str | int | None) -> str:
    """Return the name of a request within its session.

    It holds the request's id if that is short, so that an instance that has never seen the request can answer
    it. A notification has no id, and gets a name of its own.
    """
    if request_id is None:
        return f"n{secrets.token_hex(12)}"
    text = json.dumps(request_id, ensure_ascii=False).encode("utf-8", "surrogatepass")
    if len(text) > _LONGEST_ID_BYTES:
        return f"h{hashlib.sha256(text).hexdigest()[:40]}"
    return f"r{base64.urlsafe_b64encode(text).decode().rstrip('=')}"


def request_id_of(name: str) -> str | int | None:
    """Return the id of the request with this name; `None` if the name does not hold it."""
    if not name.startswith("r"):
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(name[1:] + "=" * (-len(name[1:]) % 4)))
        if type(found) is str:
            # Half of a surrogate pair is text in Python, but cannot be sent. No request had such an id.
            found.encode()
    except (ValueError, binascii.Error):
        return None
    return found if type(found) in (str, int) else None


def same_id_as_other_type(request_id: str | int) -> str | int | None:
    """Return 7 for "7", and "7" for 7; `None` for text that is not a number as JSON writes it."""
    if type(request_id) is int:
        return str(request_id)
    try:
        number = int(request_id)
    except ValueError:
        return None
    return number if str(number) == request_id else None


def inbox_of(session_id: str, name: str) -> str:
    """Return the address of a running request's inbox, the mailbox of messages from the client."""
    return private_mailbox(session_id, f"in.{name}")


def new_question_id(name: str) -> str:
    """Return an unguessable id for a server request. It names the inbox that the answer goes to."""
    return f"{name}.{secrets.token_hex(12)}"


def inbox_of_question(session_id: str, question_id: Any) -> str | None:
    """Return the inbox, within the session, that a server request's id names; `None` for a foreign id."""
    match = _QUESTION.fullmatch(question_id) if isinstance(question_id, str) else None
    return None if match is None else inbox_of(session_id, match[1])


def new_run() -> str:
    """Return a name for one run of a request.

    A request's id may be running twice, if a balancer has repeated a POST or a client has begun to count
    anew. The messages of one run must not be taken for those of the other.
    """
    return secrets.token_hex(6)


def new_connection() -> str:
    """Return a name for one connection of a stream.

    It makes the first event id of a connection a new one, even if nothing was sent since the last id. The Go
    SDK's client gives up after five connections that ended without a new id.
    """
    return secrets.token_hex(4)


class StandaloneId(NamedTuple):
    """Event id on a session's standalone stream: the cursor behind the event.

    The event that begins a connection also has the connection's name. While another connection reads, the
    stream has no cursor of its own: it continues at the point that the other connection has reached.
    """

    cursor: str | None
    connection: str = ""
    at_least: bool = False
    """`True` if the stream continues behind the cursor, at the point that another connection has reached."""

    @classmethod
    def parse(cls, text: str) -> StandaloneId:
        """Read the text that `str` wrote. The manager finds out if the cursor is valid."""
        match = _STANDALONE.fullmatch(text)
        if match is None:
            return cls(text or None)
        return cls(match[1] or None, at_least=bool(match[2] and match[1]))

    def __str__(self) -> str:
        mark = "+" if self.at_least else ""
        return f"{self.cursor or ''}{f'@{mark}{self.connection}' if self.connection else ''}"


class EventId(NamedTuple):
    """Event id on a request's own stream: the request's name, the run, and the cursor behind the event."""

    name: str
    run: str
    cursor: str
    last: bool = False
    """`True` if the event is the answer. Nothing follows it."""

    connection: str = ""
    """Name of the connection that the event begins. It is for the client alone, and not read again."""

    @classmethod
    def parse(cls, text: str) -> EventId | None:
        """Read the text that `str` wrote; `None` for anything else, such as a standalone event id."""
        match = _EVENT.fullmatch(text)
        return None if match is None else cls(match[1], match[2], match[3], last=bool(match[4]))

    def __str__(self) -> str:
        connection = f"@{self.connection}" if self.connection else ""
        return f"{self.name}.{self.run}:{self.cursor}{connection}{'~' if self.last else ''}"

    def mailbox(self, session_id: str) -> str:
        """Return the address of the mailbox that keeps the stream."""
        return private_mailbox(session_id, f"out.{self.name}.{self.run}")
