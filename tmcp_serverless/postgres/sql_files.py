"""SQL from `.sql` files: named statements, with names and bounds in the place of `{name}`.

A file holds statements under lines of the form `-- name: description`. Values are always parameters.

No name in a statement is looked up along the connection's `search_path`: another client of a pooler may have
set it. Tables come with their schema. Functions and types get `pg_catalog.` here, so that the files stay
readable.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from tmcp_serverless.sessions.streams import inbox_limits

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BATCH_ROWS",
    "PAGE_BYTES",
    "PAGE_ROWS",
    "built_in",
    "fill",
    "load_statement",
    "load_statements",
    "silenced",
]

PAGE_ROWS = 64
PAGE_BYTES = 262_144
"""The end of a page of either mailbox: after so many rows, or with the message that takes it to so many
bytes. A page has to arrive within the time that a statement may take.
"""

BATCH_ROWS = 10_000
"""The rows that one statement of a deletion removes."""

_BOUNDS = {
    "page_rows": str(PAGE_ROWS),
    "page_bytes": str(PAGE_BYTES),
    "batch_rows": str(BATCH_ROWS),
    "inbox_rows": str(max(inbox_limits(0, early=True))),
}
"""Limits in statements. With a parameter as limit a statement would be planned anew each time."""

_RING = re.compile(r"\bpg_notify\(([^(),]+), ''\)(?:::text)?")
_HEADING = re.compile(r"^-- (\w+): .*$", re.MULTILINE)
_NAME = re.compile(r"\{(\w+)\}")

_CALL = re.compile(
    r"""(?<![\w."}])(?!(?:coalesce|greatest|least|position|extract)\(|unnest\([^()]*,)([a-z]\w*)\("""
)
"""A function call as these files write it: small letters, and no space before the parenthesis. `coalesce` and
the like, and `unnest` of several arrays, are not functions but syntax of the parser.
"""

_CAST = re.compile(r"::([a-z]\w*)")


def built_in(sql: str) -> str:
    """Return the SQL with `pg_catalog.` before the functions it calls and the types it casts to."""
    return _CAST.sub(_in_catalog, _CALL.sub(r"pg_catalog.\1(", sql))


def _in_catalog(cast: re.Match[str]) -> str:
    # `bigint` and `double precision` are words of the grammar; the catalog has other names for these types.
    return cast[0] if cast[1] in ("bigint", "interval") else f"::pg_catalog.{cast[1]}"


def fill(sql: str, names: Mapping[str, str]) -> str:
    """Return the SQL with `{name}` replaced by the quoted names of tables, functions and topics."""
    return _NAME.sub(lambda match: _BOUNDS.get(match[1]) or names[match[1]], built_in(sql))


@cache
def _read(name: str) -> tuple[tuple[str, str], ...]:
    text = files("tmcp_serverless.postgres").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    pieces = _HEADING.split(text)[1:]
    return tuple(
        (heading, body.strip().removesuffix(";"))
        for heading, body in zip(pieces[::2], pieces[1::2], strict=True)
    )


def load_statements(name: str, names: Mapping[str, str]) -> dict[str, str]:
    """Return the file's statements by their names."""
    return {heading: fill(body, names) for heading, body in _read(name)}


def load_statement(name: str, heading: str, names: Mapping[str, str]) -> str:
    """Return one of the file's statements. It uses no other names than these."""
    return fill(dict(_read(name))[heading], names)


def silenced(sql: str) -> str:
    """Return the statement without its rings, and with the same number of columns."""
    return _RING.sub(r"left(\1::text, 0)", sql)
