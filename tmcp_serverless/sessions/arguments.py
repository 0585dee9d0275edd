"""Checks of the stream managers' arguments, before anything is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["checked_session_ids", "refuse_reserved_id", "refuse_what_is_no_json"]


def refuse_what_is_no_json(data: str) -> None:
    """Refuse a message that cannot be JSON text, and that Postgres could not store.

    Raises:
        ValueError: The message has a NUL character.

    """
    if "\0" in data:
        raise ValueError("a message is JSON text, which has no NUL character (JSON writes it as \\u0000)")


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
