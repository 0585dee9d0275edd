"""Pasted connection strings: text around them is removed, and text of another kind is named."""

from __future__ import annotations

import re

__all__ = ["cleaned", "refuse_semicolons", "refuse_templates", "without_scheme"]

_ASSIGNED = re.compile(
    r"(?:(?:export|set|env)\s+)?[a-z_][a-z0-9_]*\s*[=:]\s*(?=[\"'`]|[a-z+]+:)", re.IGNORECASE
)
_COMMAND = re.compile(r"psql\s+(?:-d\s+|--dbname[= ])?(?=\S)")
_SCHEME = re.compile(r"(?:jdbc:)?(?:postgresql|postgres|postgis|pgsql|psql)(?:\+\w+)?://", re.IGNORECASE)
_ANY_SCHEME = re.compile(r"(?:jdbc:)?([a-z][a-z0-9.-]*)(?:\+[a-z0-9]+)?:(?://|\w+:)", re.IGNORECASE)
_CONTROL = re.compile(r"[\0-\x1f\x7f]")
_WORDS = (
    r"(?:your|my|the|db|database|pg|postgres|user|pass|pwd|host|port|project|region|endpoint|secret|name|role"
    r"|insert|ref|neon)"
)
_TEMPLATE = re.compile(
    rf"(?:^|(?<=[/:@=,.'\s]))(?:\[\s*{_WORDS}[\w .-]*\]|<\s*{_WORDS}[\w .-]*>"
    rf"|\{{\{{?\s*{_WORDS}[\w .-]*\}}\}}?"
    r"|\$\{\w+\}|\$\(\w+\))(?=[/:@?&#,.'\s]|$)",
    re.IGNORECASE,
)

_DOTNET = re.compile(
    r"[a-z][a-z ]*=(?:[^;=]*|[^;\s]*);\s*(?:host|server|port|user ?name|user ?id|user|uid|password|pwd"
    r"|database|timeout|initial catalog|data source|integrated security|ssl ?mode|trust server certificate"
    r"|pooling|(?:minimum|maximum|command|connection|max|min) [a-z ]+)\s*=",
    re.IGNORECASE,
)

_WEB = frozenset({"http", "https", "ws", "wss"})
_OTHERS = frozenset(
    {
        *(
            "mysql",
            "mysql2",
            "mariadb",
            "mongodb",
            "redis",
            "rediss",
            "sqlite",
            "sqlite3",
            "mssql",
            "sqlserver",
        ),
        *("oracle", "cockroachdb", "prisma", "file", "clickhouse", "snowflake", "libsql", "duckdb"),
        *("cassandra", "amqp", "kafka", "s3", "arn"),
    }
)


def cleaned(text: str) -> str:
    """Return the text without parts copied along: spaces, quotes, `DATABASE_URL=`, `psql`, a semicolon."""
    before = None
    while text != before:
        before = text
        text = text.strip().strip("\ufeff\u200b").strip()
        text = _COMMAND.sub("", text, count=1) if _COMMAND.match(text) else text
        if (found := _ASSIGNED.match(text)) and not _SCHEME.match(text) and not _ANY_SCHEME.match(text):
            text = text[found.end() :]
        if len(text) > 1 and text[0] in "\"'`" and text[-1] == text[0]:
            text = text[1:-1]
        if _SCHEME.match(text) or text.endswith(('";', "';")):
            text = text.rstrip(";")
    return text


def without_scheme(text: str) -> str | None:
    """Return the rest of a URL after its scheme; `None` if the text is no URL.

    Raises:
        ValueError: The text is a URL of something else, or has line breaks in it.

    """
    if found := _SCHEME.match(text):
        if _CONTROL.search(text):
            raise ValueError("there is a line break, or another control character, within the URL")
        return text[found.end() :]
    other = _ANY_SCHEME.match(text)
    name = other[1].lower() if other else ""
    if name in _WEB:
        raise ValueError(
            f"that is an address of the web ({name}:), and no Postgres connection string: "
            "take the one that begins with postgresql://"
        )
    if name in _OTHERS:
        raise ValueError(f"that leads to {name}, and the sessions are kept in Postgres: postgresql://...")
    return None


def refuse_templates(text: str) -> None:
    """Raise if a placeholder has not been filled in.

    Raises:
        ValueError: The text has a placeholder.

    """
    if _TEMPLATE.search(text):
        raise ValueError(
            "a placeholder of the template is still in it, such as [YOUR-PASSWORD], <password> or ${PASSWORD}"
        )


def refuse_semicolons(text: str) -> None:
    """Raise if semicolons separate pairs, as in .NET. libpq would read them as one pair.

    Raises:
        ValueError: Semicolons separate the pairs.

    """
    if _DOTNET.match(text):
        raise ValueError(
            "that is a connection string of .NET, with semicolons: write it as "
            "postgresql://user:password@host:port/dbname"
        )
