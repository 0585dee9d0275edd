"""The driver looks for no type in the catalog: each look costs milliseconds, once on each new connection."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from tests.support.rows import statements_of
from tmcp_serverless.postgres.components import info_component, keys_component, streams_component
from tmcp_serverless.postgres.operate import privileges
from tmcp_serverless.postgres.sql_files import silenced

COMPONENTS = (streams_component(), info_component(), keys_component())
STATEMENTS = {
    f"{component.kind}.{name}": sql
    for component in COMPONENTS
    for name, sql in statements_of(component).items()
}


class Watched(asyncpg.Connection):
    """A connection that counts what the driver asks for itself."""

    looked_for: list[Any]

    __slots__ = ("looked_for",)

    async def _introspect_types(self, typeoids: Any, timeout: Any) -> Any:  # noqa: ASYNC109 - the driver's own
        self.looked_for.append(typeoids)
        inherited: Any = super()
        return await inherited._introspect_types(typeoids, timeout)


async def looked_for(database_url: str, sql: str) -> list[Any]:
    connection: Any = await asyncpg.connect(database_url, connection_class=Watched)
    connection.looked_for = []
    await connection.prepare(sql)
    await connection.close()
    return connection.looked_for


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_statement_has_a_type_that_the_driver_looks_for(database_url: str, name: str) -> None:
    assert await looked_for(database_url, STATEMENTS[name]) == []
    assert await looked_for(database_url, silenced(STATEMENTS[name])) == []


@pytest.mark.parametrize("name", ["_USE", "_MIGRATE"])
async def test_no_question_about_privileges_has_one(database_url: str, name: str) -> None:
    assert await looked_for(database_url, vars(privileges)[name]) == []


async def test_the_watch_sees_a_type_that_is_looked_for(database_url: str) -> None:
    assert await looked_for(database_url, "SELECT $1::bigint[]") != []
