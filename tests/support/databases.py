"""A database for each test: copied ahead of time from one that has the tables, and gone when the test is.

Another process makes the next one and removes the last one while a test runs. What a test does to its own
process, to the variables or to the driver, does not get in the way.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import asyncpg

from tmcp_serverless.postgres.identifiers import quote
from tmcp_serverless.postgres.schema import migrate
from tmcp_serverless.testing.postgres import create_database

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Databases"]

_AHEAD = 2
_TIMEOUT_SECONDS = 30


class Databases:
    """The databases of one run on one server; `with` it, and nothing is left on the server."""

    def __init__(self, postgres_url: str) -> None:
        self._postgres_url = postgres_url
        self._worker = ProcessPoolExecutor(1, get_context("spawn"), _end_with_the_parent)
        self._template = self._worker.submit(_create_template, postgres_url)
        self._ahead: deque[Future[str]] = deque()

    def take(self) -> str:
        """Return the URL of a database that has the tables, and nothing in them."""
        template = _name(self._template.result())
        while len(self._ahead) <= _AHEAD:
            self._ahead.append(self._worker.submit(_create, self._postgres_url, template))
        return self._ahead.popleft().result()

    def take_empty(self) -> str:
        """Return the URL of a database that has no tables."""
        return self._worker.submit(_create, self._postgres_url, None).result()

    def give_back(self, url: str) -> None:
        """Remove the database, soon. Whoever is still connected to it is not any more."""
        self._worker.submit(_drop, self._postgres_url, url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._worker:
            for prepared in (*self._ahead, self._template):
                self.give_back(prepared.result())


def _end_with_the_parent() -> None:
    def watch() -> None:
        parent = parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _create(postgres_url: str, template: str | None) -> str:
    return asyncio.run(create_database(postgres_url, f"t_{uuid4().hex}", template=template))


def _create_template(postgres_url: str) -> str:
    url = _create(postgres_url, None)
    asyncio.run(migrate(url))
    return url


def _drop(postgres_url: str, url: str) -> None:
    asyncio.run(_execute(postgres_url, f"DROP DATABASE {quote(_name(url))} WITH (FORCE)"))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, timeout=_TIMEOUT_SECONDS)
    try:
        await connection.execute(statement, timeout=_TIMEOUT_SECONDS)
    finally:
        await connection.close(timeout=_TIMEOUT_SECONDS)


def _name(url: str) -> str:
    return unquote(urlsplit(url).path.removeprefix("/"))
