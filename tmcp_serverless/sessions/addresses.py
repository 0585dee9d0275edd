"""Addresses of mailboxes: session ids, mailboxes inside a session, and the two topics."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BROADCAST",
    "EVENTS",
    "LISTEN_LEASES",
    "checked_session_ids",
    "is_minted_id",
    "is_private",
    "is_session_id",
    "is_stream_session_id",
    "kind_bounds",
    "listen_lease",
    "mint_session_id",
    "mint_stream_session_id",
    "private_mailbox",
    "random_sweep_start",
    "refuse_reserved_id",
]

_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_STREAM_PREFIX = "sse-"
_STREAM_SESSION_ID = re.compile(_STREAM_PREFIX + r"[A-Za-z0-9_-]{43}")
_MINTED_ID = re.compile(rf"(?:{_STREAM_PREFIX})?[A-Za-z0-9_-]{{43}}")

BROADCAST = "/broadcast"
"""The address of the topic of broadcasts. A message for every session is appended there, once."""

EVENTS = "/events"
"""The address of the topic of events, which watches read."""


LISTEN_LEASES = "listen/"
"""The beginning of the ids of leases that are held for listen streams, which have no session."""


def listen_lease(token: str) -> str:
    """Return the id of a lease for a listen stream. No session's id has a slash."""
    return f"{LISTEN_LEASES}{token}"


def mint_session_id() -> str:
    """Return a new session id: 43 characters, 256 bits of randomness."""
    return secrets.token_urlsafe(32)


def mint_stream_session_id() -> str:
    """Return a new id for a session that is one stream (HTTP+SSE): four characters longer than any other.

    So an id tells the transport of its session, without a look at the session.
    """
    return _STREAM_PREFIX + mint_session_id()


def random_sweep_start() -> str:
    """Return a possible beginning of an id of either kind, for sweeps that visit some ids in no order."""
    return secrets.choice(("", _STREAM_PREFIX)) + secrets.token_urlsafe(3)


def is_stream_session_id(text: str) -> bool:
    """Return true if the text has the form of an id of a session that is one stream."""
    return _STREAM_SESSION_ID.fullmatch(text) is not None


def is_minted_id(text: str) -> bool:
    """Return true if the text has exactly the form of an id that is minted here, for either transport."""
    return _MINTED_ID.fullmatch(text) is not None


def is_session_id(text: str) -> bool:
    """Return true if the text has the form of an id that the transports mint."""
    return _SESSION_ID.fullmatch(text) is not None


def private_mailbox(session: str, name: str) -> str:
    """Return the address of a mailbox inside a session.

    The mailbox is deleted with the session, and broadcasts do not reach it. A session id has no slash, so an
    address names a mailbox of this session and of no other.
    """
    return f"{session}/{name}"


def kind_bounds(address: str) -> tuple[str, str]:
    """Return the bounds of the addresses of a private mailbox's kind: the same up to its first dot.

    The upper one is exclusive. A mailbox of no kind is alone between them.
    """
    session, slash, name = address.partition("/")
    kind, dot, _ = name.partition(".")
    if not dot:
        return address, address + chr(1)
    return f"{session}{slash}{kind}.", f"{session}{slash}{kind}/"


def is_private(address: str) -> bool:
    """Return true if the address is a mailbox inside a session, which hears no broadcasts."""
    return "/" in address


def checked_session_ids(sessions: Iterable[str]) -> list[str]:
    """Return the ids, each once.

    Raises:
        ValueError: The argument is one string. It would be taken for ids of one character each.

    """
    if isinstance(sessions, str):
        raise ValueError("send takes several session ids: pass a list of session ids, and not a string")  # noqa: TRY004 - the managers raise ValueError for whatever is wrong with an argument
    return list(dict.fromkeys(sessions))


def refuse_reserved_id(id: str) -> None:
    """Refuse to delete a topic of the deployment, or everything: the id must be a session's.

    Raises:
        ValueError: The id is empty, or begins with a slash.

    """
    if not id or id.startswith("/"):
        raise ValueError(f"there is no session {id!r} that could be deleted")
