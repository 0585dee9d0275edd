"""The schema of the tables: found once, named in every statement, whatever `search_path` a connection has."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import asyncpg
import pytest

from tests.postgres.test_streams import pgbouncer
from tests.support.client import Client
from tests.support.fixtures import postgres_managers
from tests.support.roles import poor_role
from tests.support.rows import statements_of
from tests.support.servers import small_server
from tmcp_serverless import (
    ConfigurationError,
    Database,
    PostgresInfoSessionManager,
    PostgresStreamSessionManager,
    SchemaError,
    SessionManagers,
    SessionRecord,
    TableNames,
    create_handler,
)
from tmcp_serverless.postgres import schema as schemas
from tmcp_serverless.postgres.components import info_component, keys_component, streams_component
from tmcp_serverless.postgres.sql_files import built_in
from tmcp_serverless.testing.contracts import RecordingController

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["pgbouncer"]

RECORD = SessionRecord(
    protocol_version="2025-11-25",
    client_info={"name": "c", "version": "1"},
    client_capabilities={"roots": {}},
)

HOSTILE = (
    "SELECT set_config('search_path', '', false)",  # as `pg_dump` leaves it
    "SET search_path TO tenant",
    "SET search_path TO tenant, pg_catalog",
    "SET search_path TO nowhere",
    "SET search_path TO pg_temp, tenant, public",
)

# What another application may have for tests of its own. First in the path, it would be what is called.
FAKES = """
CREATE SCHEMA tenant;
CREATE FUNCTION tenant.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '1999-12-31 UTC'::timestamptz $$;
CREATE FUNCTION tenant.pg_notify(text, text) RETURNS void LANGUAGE sql AS $$ SELECT $$;
CREATE FUNCTION tenant.octet_length(text) RETURNS integer LANGUAGE sql AS $$ SELECT 1000000000 $$;
CREATE FUNCTION tenant.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT $2 $$;
CREATE FUNCTION tenant.split_part(text, text, integer) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;
CREATE TABLE tenant.tmcp_session_context (id pg_catalog.text);
"""


@asynccontextmanager
async def connected(dsn: str) -> AsyncGenerator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn, statement_cache_size=0)
    try:
        yield connection
    finally:
        await connection.close()


async def execute(dsn: str, sql: str, *args: Any) -> list[Any]:
    async with connected(dsn) as connection:
        return await connection.fetch(sql, *args) if args else [await connection.execute(sql)]


async def leave(pooled: str, sql: str) -> None:
    """Do something on every server connection of the pooler, and leave it like that."""
    async with asyncio.TaskGroup() as group:
        gate = asyncio.Barrier(5)

        async def one() -> None:
            async with connected(pooled) as connection, connection.transaction():
                await connection.fetchval("SELECT 1")
                await gate.wait()  # so that each has a server connection of its own
                await connection.execute(sql)

        for _ in range(5):
            group.create_task(one())


async def tables(dsn: str) -> dict[str, set[str]]:
    async with connected(dsn) as connection:
        rows = await connection.fetch(
            "SELECT schemaname, tablename FROM pg_tables WHERE tablename LIKE '%mcp%' OR tablename = 'box'"
        )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row[0], set()).add(row[1])
    return found


async def use(managers: SessionManagers, session: str) -> None:
    """Do what sessions are made of, once each."""
    controller = RecordingController()
    async with managers:
        await managers.check()
        await managers.info.initialize(session, RECORD)
        assert await managers.info.load(session) == RECORD
        await managers.info.add_subscription(session, "a://1")
        assert session in await managers.info.get_subscriptions("a://1")
        await managers.streams.create(session, controller)
        await managers.streams.send([session], "own")
        await managers.streams.send(None, "all")
        assert sorted(await controller.count(2)) == ["all", "own"]
        assert managers.keys is not None
        assert await managers.keys.spend(session, seconds=60)
        await managers.info.sweep()
        await managers.streams.sweep(limit=10)
        await managers.streams.delete(session)
        await managers.info.delete(session)


@pytest.mark.parametrize("left", HOSTILE)
async def test_whatever_path_another_client_of_a_pooler_has_left_the_tables_are_the_same(
    left: str, pgbouncer: str, empty_database_url: str
) -> None:
    pooled = pgbouncer.rpartition("/")[0] + "/" + empty_database_url.rpartition("/")[2]
    await execute(empty_database_url, FAKES)
    server = small_server()
    warm, cold = (
        create_handler(server, database_url=pooled, doorbell="poll"),
        create_handler(server, database_url=pooled, doorbell="poll"),
    )
    async with warm, cold:
        client = await Client(warm.app).initialize()
        await leave(pooled, left)
        assert await client.call("add", a=1, b=2) == "3"
        elsewhere = Client(cold.app)
        elsewhere.session = client.session
        assert await elsewhere.call("add", a=1, b=2) == "3"
        await use(postgres_managers(pooled, streams={"doorbell": "poll"}), "s")
        assert (await client.delete()).status in (200, 204)
    assert (await tables(empty_database_url)).keys() == {"public", "tenant"}
    assert (await tables(empty_database_url))["tenant"] == {"tmcp_session_context"}


async def test_the_first_to_come_finds_the_tables_place_on_a_connection_that_others_have_used(
    pgbouncer: str, empty_database_url: str
) -> None:
    pooled = pgbouncer.rpartition("/")[0] + "/" + empty_database_url.rpartition("/")[2]
    await execute(empty_database_url, FAKES)
    await leave(pooled, "SET search_path TO tenant, pg_catalog")
    await use(postgres_managers(pooled, streams={"doorbell": "poll"}), "s")
    assert "tmcp_sessions" in (await tables(empty_database_url))["public"]
    assert (await tables(empty_database_url))["tenant"] == {"tmcp_session_context"}


@pytest.mark.parametrize("doorbell", ["listen", "poll"])
async def test_a_path_that_the_role_begins_with_says_where_the_tables_are(
    empty_database_url: str, doorbell: str
) -> None:
    async with poor_role(empty_database_url) as (role, dsn):
        await execute(
            empty_database_url,
            f'CREATE SCHEMA "Its Own" AUTHORIZATION {role}; CREATE SCHEMA closed; '
            f'ALTER ROLE {role} SET search_path = nowhere, closed, "Its Own", public',
        )
        await use(postgres_managers(dsn, streams={"doorbell": doorbell}), "s")
        found = await tables(empty_database_url)
        assert found.keys() == {"Its Own"}
        assert {"tmcp_sessions", "tmcp_session_context", "tmcp_schema"} <= found["Its Own"]


async def test_a_path_in_the_connection_string_says_where_the_tables_are(empty_database_url: str) -> None:
    await execute(empty_database_url, "CREATE SCHEMA chosen")
    dsn = f"{empty_database_url}?options={quote('-c search_path=chosen')}"
    await use(postgres_managers(dsn), "s")
    assert (await tables(empty_database_url)).keys() == {"chosen"}


@pytest.mark.parametrize("name", ["tenant", "Mixed Case", 'with "quotes"', '"dotted.name"', "ö" * 31])
@pytest.mark.parametrize("doorbell", ["listen", "poll"])
async def test_a_schema_that_is_set_is_made_and_is_the_only_one_used(
    empty_database_url: str, name: str, doorbell: str
) -> None:
    there = {"schema": name}
    managers = postgres_managers(empty_database_url, streams={**there, "doorbell": doorbell}, info=there)
    await use(managers, "s")
    assert (await tables(empty_database_url)).keys() == {name.strip('"') if "." in name else name}
    async with Database(empty_database_url, schema=name) as database:
        assert await schemas.migrate(database) == []


async def test_names_with_a_schema_stay_where_they_are(empty_database_url: str) -> None:
    await execute(empty_database_url, "CREATE SCHEMA a; CREATE SCHEMA b")
    names = TableNames(client_info="a.mcp_info", context="b.mcp_context")
    await use(
        postgres_managers(
            empty_database_url,
            streams={"schema": "c", "table_name": "a.box"},
            info={"schema": "c", "table_names": names},
        ),
        "s",
    )
    found = await tables(empty_database_url)
    assert "box" in found["a"]
    async with connected(empty_database_url) as connection:
        assert (
            await connection.fetchval("SELECT relkind FROM pg_class WHERE oid = 'a.mcp_info'::regclass")
            == b"v"
        )
    assert "mcp_context" in found["b"]
    assert "tmcp_session_subscriptions" in found["c"]
    assert found.keys() == {"a", "b", "c"}


async def test_tables_are_the_same_whether_their_schema_is_in_the_name_or_set(
    empty_database_url: str,
) -> None:
    await execute(empty_database_url, "CREATE SCHEMA a")
    async with PostgresStreamSessionManager(empty_database_url, table_name="a.tmcp_box") as streams:
        await streams.prepare("s")
    async with PostgresStreamSessionManager(
        empty_database_url, table_name="tmcp_box", schema="a", create=False
    ) as streams:
        assert await streams.append("s", "x", create=False) is not None


@asynccontextmanager
async def streams_in(dsn: str, *names: str) -> AsyncGenerator[tuple[PostgresStreamSessionManager, ...]]:
    made = tuple(PostgresStreamSessionManager(dsn, schema=name) for name in names)
    yield made
    for each in made:
        await each.aclose()


async def test_two_schemas_are_apart_and_do_not_ring_each_other(empty_database_url: str) -> None:
    async with streams_in(empty_database_url, "a", "b") as (one, other):
        heard, not_heard = RecordingController(), RecordingController()
        await one.create("s", heard)
        await other.create("s", not_heard)
        assert one._statements.channel("x") != other._statements.channel("x")  # pyright: ignore[reportPrivateUsage]
        await one.send(["s"], "x")
        await one.send(None, "y")
        assert sorted(await heard.count(2)) == ["x", "y"]
        await other.send(["s"], "z")
        assert await not_heard.count(1) == ["z"]


async def test_a_schema_that_is_not_there_and_may_not_be_made_is_told_with_the_command(
    empty_database_url: str,
) -> None:
    async with PostgresInfoSessionManager(empty_database_url, schema="nowhere", create=False) as info:
        with pytest.raises(SchemaError, match=r"'nowhere'.*tmcp-serverless migrate"):
            await info.load("s")
    async with (
        poor_role(empty_database_url) as (role, dsn),
        PostgresInfoSessionManager(dsn, schema="nowhere") as info,
    ):
        with pytest.raises(ConfigurationError, match=rf"{role} may not .*'nowhere'.*tmcp-serverless migrate"):
            await info.load("s")
        await execute(empty_database_url, f"CREATE SCHEMA nowhere AUTHORIZATION {role}")
        assert await info.load("s") is None


async def test_a_role_without_any_schema_is_told_to_set_one(empty_database_url: str) -> None:
    async with poor_role(empty_database_url) as (role, dsn):
        await execute(empty_database_url, f"ALTER ROLE {role} SET search_path = nowhere")
        async with PostgresInfoSessionManager(dsn) as info:
            with pytest.raises(ConfigurationError, match="TMCP_SCHEMA"):
                await info.check()


@pytest.mark.parametrize("name", ["", "a.b", '"a"."b"', "a\0", "x" * 64])
def test_what_is_no_schema_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        PostgresStreamSessionManager("postgresql://nobody@127.0.0.1:1/x", schema=name)


def test_every_function_that_a_statement_calls_is_one_of_the_catalogs() -> None:
    found: set[str] = set()
    for component in (streams_component(schema="s"), info_component(schema="s"), keys_component(schema="s")):
        texts = [*statements_of(component).values(), *(sql for _, sql in component.migrations())]
        for text in texts:
            sql = re.sub(r"--.*|'[^']*'", "", text)
            found |= set(re.findall(r"(?<![\w.\"])([a-z]\w*)\(", sql))
    assert found <= {"coalesce", "greatest", "least", "position", "extract", "unnest"}, found


async def test_a_function_without_a_prefix_in_a_statement_would_be_anothers(empty_database_url: str) -> None:
    """Else the test above proves nothing."""
    await execute(empty_database_url, FAKES)
    async with connected(empty_database_url) as connection:
        await connection.execute("SET search_path TO tenant, pg_catalog")
        assert await connection.fetchval("SELECT extract(year FROM now())::int") == 1999
        assert await connection.fetchval(built_in("SELECT extract(year FROM now()) > 1999")) is True


def test_migrations_and_statements_name_no_table_without_braces() -> None:
    for folder in ("sql", "migrations"):
        for entry in files("tmcp_serverless.postgres").joinpath(folder).iterdir():
            assert "tmcp_" not in re.sub(r"--.*|\$tmcp_\w+\$", "", entry.read_text(encoding="utf-8")), (
                entry.name
            )


async def test_the_printed_script_makes_the_tables_in_the_schema_whatever_the_path(
    empty_database_url: str,
) -> None:
    async with connected(empty_database_url) as connection:
        await connection.execute("SET search_path TO nowhere")
        await connection.execute(schemas.script(schema="my schema"))
    await use(
        postgres_managers(
            empty_database_url,
            streams={"schema": "my schema", "create": False},
            info={"schema": "my schema", "create": False},
        ),
        "s",
    )
    assert (await tables(empty_database_url)).keys() == {"my schema"}
