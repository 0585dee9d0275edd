"""A database for each test, on a server that they share."""

from __future__ import annotations

import asyncio
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["create_database", "create_database_sync"]

_TIMEOUT_SECONDS = 10
# Copying files takes a checkpoint. That costs next to nothing if nothing is flushed. The other strategy, the
# default since PostgreSQL 15, writes every page to the log as well.
_COPIES_FILES = """\
SELECT current_setting('server_version_num')::integer >= 150000 AND current_setting('fsync') = 'off'"""


async def create_database(dsn: str, name: str, *, template: str | None = None) -> str:
    """Create a database on the server that `dsn` leads to, and return the new one's DSN.

    `template` names the database to copy (no client may be connected to it), so that each of many tests gets
    its own with the tables in place. Any name will do; it is quoted.
    """
    import asyncpg  # importing this package imports no driver

    statement = f"CREATE DATABASE {_quoted(name)}"
    if template is not None:
        statement += f" TEMPLATE {_quoted(template)}"
    connection = await asyncpg.connect(dsn, timeout=_TIMEOUT_SECONDS)
    try:
        if await connection.fetchval(_COPIES_FILES, timeout=_TIMEOUT_SECONDS):
            statement += " STRATEGY FILE_COPY"
        await connection.execute(statement, timeout=_TIMEOUT_SECONDS)
    finally:
        await connection.close(timeout=_TIMEOUT_SECONDS)
    return urlunsplit(urlsplit(dsn)._replace(path="/" + quote(name, safe="")))


def create_database_sync(dsn: str, name: str, *, template: str | None = None) -> str:
    """Run `create_database`, with or without a running event loop in the calling thread."""
    results: list[str | BaseException] = []
    thread = Thread(target=_run, args=(create_database(dsn, name, template=template), results))
    thread.start()
    thread.join()
    (result,) = results
    if isinstance(result, BaseException):
        raise result
    return result


def _run(coroutine: Coroutine[None, None, str], results: list[str | BaseException]) -> None:
    try:
        results.append(asyncio.run(coroutine))
    except BaseException as error:  # noqa: BLE001  # raised again in the thread that asked
        results.append(error)


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
