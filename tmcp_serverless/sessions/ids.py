"""Session ids, and the addresses of the mailboxes that belong to a session."""

from __future__ import annotations

import re
import secrets

__all__ = ["BROADCAST", "is_private", "is_session_id", "mint_session_id", "private_mailbox"]

_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")

BROADCAST = "/broadcast"
"""The address of the topic: what concerns every session is appended there, once."""


def mint_session_id() -> str:
    """Return a new session id: 43 characters, 256 bits of randomness."""
    return secrets.token_urlsafe(32)


def is_session_id(text: str) -> bool:
    """Return whether the text has the form of an id that the transports mint."""
    return _SESSION_ID.fullmatch(text) is not None


def private_mailbox(session: str, name: str) -> str:
    """Return the address of a mailbox inside a session.

    It is deleted with the session, and broadcasts do not reach it. A session id has no slash, so an
    address names a mailbox of this session and of no other.
    """
    return f"{session}/{name}"


def is_private(address: str) -> bool:
    """Return whether the address is a mailbox inside a session, which hears no broadcasts."""
    return "/" in address
