"""A database for each test: copied ahead of time from one that has the tables, and gone when the test is.

Another thread makes the next one and removes the last one while a test runs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
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
        self._worker = ThreadPoolExecutor(1, "databases")
        self._template: str | None = None
        self._ahead: deque[Future[str]] = deque()

    def take(self) -> str:
        """Return the URL of a database that has the tables, and nothing in them."""
        while len(self._ahead) <= _AHEAD:
            self._ahead.append(self._worker.submit(self._copy))
        return self._ahead.popleft().result()

    def take_empty(self) -> str:
        """Return the URL of a database that has no tables."""
        return self._worker.submit(self._create, None).result()

    def give_back(self, url: str) -> None:
        """Remove the database, soon. Whoever is still connected to it is not any more."""
        self._worker.submit(self._drop, url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for prepared in self._ahead:
            self.give_back(prepared.result())
        if self._template is not None:
            self.give_back(self._template)
        self._worker.shutdown()

    def _copy(self) -> str:
        if self._template is None:
            template = self._create(None)
            asyncio.run(migrate(template))
            self._template = template
        return self._create(_name(self._template))

    def _create(self, template: str | None) -> str:
        return asyncio.run(create_database(self._postgres_url, f"t_{uuid4().hex}", template=template))

    def _drop(self, url: str) -> None:
        asyncio.run(_execute(self._postgres_url, f"DROP DATABASE {quote(_name(url))} WITH (FORCE)"))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, timeout=_TIMEOUT_SECONDS)
    try:
        await connection.execute(statement, timeout=_TIMEOUT_SECONDS)
    finally:
        await connection.close(timeout=_TIMEOUT_SECONDS)


def _name(url: str) -> str:
    return unquote(urlsplit(url).path.removeprefix("/"))
