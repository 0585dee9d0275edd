"""SQL from `.sql` files: named statements, with table names put in where the file has `{name}`.

A file holds statements under lines of the form `-- name: what it is for`. Values are always parameters.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["fill", "load_statements", "silenced"]

_RING = re.compile(r"\bpg_notify\(([^(),]+), ''\)(?:::text)?")
_HEADING = re.compile(r"^-- (\w+): .*$", re.MULTILINE)


@cache
def _read(name: str) -> tuple[tuple[str, str], ...]:
    text = files("tmcp_serverless.postgres").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    pieces = _HEADING.split(text)[1:]
    return tuple(
        (heading, body.strip().removesuffix(";"))
        for heading, body in zip(pieces[::2], pieces[1::2], strict=True)
    )


def fill(sql: str, tables: Mapping[str, str]) -> str:
    """Return the SQL with `{name}` replaced by the quoted table names."""
    for name, quoted in tables.items():
        sql = sql.replace("{" + name + "}", quoted)
    return sql


def load_statements(name: str, tables: Mapping[str, str]) -> dict[str, str]:
    """Return the file's statements by their names."""
    return {heading: fill(body, tables) for heading, body in _read(name)}


def silenced(sql: str) -> str:
    """Return the statement without its rings; it returns as many columns."""
    return _RING.sub(r"left(\1::text, 0)", sql)
