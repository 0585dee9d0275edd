"""The notes in Postgres, in the same database as the sessions, and by the same login."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tmcp_serverless import Database, Settings
from tmcp_serverless.postgres import Connection

__all__ = ["Note", "Notebook"]

_COLUMNS = "id, title, text, tags, author, written_at"
_FOUND = 20
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('team_notes'))"


class Note(BaseModel):
    """One note."""

    id: int
    title: str
    text: str
    tags: list[str]
    author: str
    written_at: datetime


class Notebook:
    """All notes. None of them stays in the process: it may vanish at any time."""

    def __init__(self) -> None:
        self._database: Database | None = None
        self._is_made = False

    @asynccontextmanager
    async def lifespan(self, _server: object) -> AsyncGenerator[None]:
        """Open the notes' database. The first query connects, so that a cold start does not wait for it."""
        self._database = Database.from_settings(Settings.load())
        try:
            yield
        finally:
            database, self._database = self._database, None
            await database.aclose()

    async def write(self, title: str, text: str, *, tags: Sequence[str], author: str) -> Note:
        """Add a note."""
        sql = (
            f"INSERT INTO team_notes (title, text, tags, author) VALUES ($1, $2, $3, $4) RETURNING {_COLUMNS}"
        )
        return (await self._query(sql, title, text, list(tags), author, idempotent=False))[0]

    async def find(self, words: str = "", *, tag: str = "") -> list[Note]:
        """Return the newest notes that have all these words, and this tag; at most twenty."""
        sql = (
            f"SELECT {_COLUMNS} FROM team_notes WHERE ($1 = '' "
            "OR to_tsvector('simple', title || ' ' || text) @@ websearch_to_tsquery('simple', $1)) "
            "AND ($2 = '' OR $2 = ANY (tags)) ORDER BY id DESC LIMIT $3"
        )
        return await self._query(sql, words, tag, _FOUND)

    async def get(self, id: int) -> Note | None:
        """Return a note, if there is one."""
        found = await self._query(f"SELECT {_COLUMNS} FROM team_notes WHERE id = $1", id)
        return found[0] if found else None

    async def delete(self, id: int) -> bool:
        """Remove a note; `False` if another client has been faster."""
        # Not again after a lost reply: it would look as if there had been no such note.
        return bool(
            await self._query(
                f"DELETE FROM team_notes WHERE id = $1 RETURNING {_COLUMNS}", id, idempotent=False
            )
        )

    async def _query(self, sql: str, *values: object, idempotent: bool = True) -> list[Note]:
        if self._database is None:
            raise RuntimeError("the notebook is not open")
        if not self._is_made:
            await self._database.run(_make)
            self._is_made = True
        rows: list[Any] = await self._database.fetch(sql, *values, idempotent=idempotent)
        return [Note.model_validate(dict(row)) for row in rows]


async def _make(connection: Connection) -> None:
    """Create the table, unless it is there: then no DDL is issued."""
    if await connection.fetchval("SELECT to_regclass('team_notes') IS NOT NULL"):
        return
    async with connection.transaction():
        await connection.execute(_LOCK)  # IF NOT EXISTS alone fails when two do it at once
        await connection.execute(Path(__file__).with_name("schema.sql").read_text(encoding="utf-8"))
