"""Checks of a database against the needs of the kit, with advice for each fault."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import asyncpg

from tmcp_serverless.errors import ConfigurationError, SchemaError, TmcpError
from tmcp_serverless.postgres.components import info_component, keys_component, streams_component
from tmcp_serverless.postgres.connect.dsn import hosts_and_ports
from tmcp_serverless.postgres.connect.tls import sslmode_of
from tmcp_serverless.postgres.failures import FROM_DATABASE
from tmcp_serverless.postgres.listen_probe import hear_nonce
from tmcp_serverless.postgres.operate.overview import list_namespaces
from tmcp_serverless.postgres.operate.privileges import lacks_for_migrating, lacks_for_use
from tmcp_serverless.postgres.schema import found_and_latest
from tmcp_serverless.postgres.statements import try_to_write

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from tmcp_serverless.config import Settings
    from tmcp_serverless.postgres.components import Component
    from tmcp_serverless.postgres.connect.target import Target
    from tmcp_serverless.postgres.database import Connection, Database

__all__ = ["Finding", "diagnose"]

_Grade: TypeAlias = Literal["ok", "note", "wrong"]

_ROUND_TRIPS = 20
_REAPS_SINCE = 14
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    grade: _Grade
    about: str
    said: str


async def diagnose(database: Database, settings: Settings) -> AsyncGenerator[Finding]:
    """Make one check after the other, and yield the findings. It ends at a fault that rules out the rest."""
    try:
        connection, parameters = await _connect(database)
    except TmcpError as error:
        yield Finding("wrong", "database", str(error))
        return
    try:
        # In a transaction: a pooler may bring each statement to another server process.
        async with connection.transaction():
            found = await _of_connection(connection, parameters, database.target)
        for finding in found:
            yield finding
        for finding in await _of_schema(connection, database, create=settings.create_tables):
            yield finding
        yield await _of_namespace(database, settings)
        yield await _of_listening(database, settings)
    except (TmcpError, *FROM_DATABASE) as error:
        yield Finding("wrong", "database", f"it could not be looked at any further: {error!r}")
    finally:
        connection.terminate()


async def _connect(database: Database) -> tuple[Connection, Mapping[str, str]]:
    # A pooler may have met these statements before.
    connection = await database.target.open(statement_cache_size=0)
    return connection, await database.target.parameters()


async def _of_connection(
    connection: Connection, parameters: Mapping[str, str], target: Target
) -> list[Finding]:
    facts: Any = await connection.fetchrow(
        "SELECT current_setting('server_version') AS version, pg_backend_pid() AS pid, "
        "current_user AS role, current_database() AS name, "
        "current_setting('idle_session_timeout', true) AS idle, "
        "current_setting('max_connections') AS most, "
        "current_setting('transaction_read_only') = 'on' AS reads_only, "
        "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used, "
        "(SELECT version || ', ' || cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl) AS tls"
    )
    pooled = connection.get_server_pid() != facts["pid"]
    place = ", ".join(f"{host}:{port}" for host, port in hosts_and_ports(parameters))
    where = f"{facts['name']} at {place} as {facts['role']} ({target.setting})"
    return [
        _of_database(f"PostgreSQL {facts['version']}, {where}", reads_only=facts["reads_only"]),
        Finding("ok", "latency", await _latency(connection)),
        _of_tls(facts["tls"], parameters, pooled=pooled),
        _of_pooler(pooled=pooled),
        _of_idling(facts["idle"], int(facts["version"].partition(".")[0].split()[0])),
        Finding("ok", "connections", f"{facts['used']} of {facts['most']} are in use"),
    ]


def _of_database(said: str, *, reads_only: bool) -> Finding:
    if reads_only:
        return Finding("wrong", "database", f"{said}, takes no writes: is it a standby?")
    return Finding("ok", "database", said)


async def _latency(connection: Connection) -> str:
    taken: list[float] = []
    for _ in range(_ROUND_TRIPS):
        began_at = time.perf_counter()
        await connection.fetchval("SELECT 1")
        taken.append((time.perf_counter() - began_at) * 1000)
    return f"a round trip takes {statistics.median(taken):.2f} ms (median of {_ROUND_TRIPS})"


def _of_tls(tls: str | None, parameters: Mapping[str, str], *, pooled: bool) -> Finding:
    mode = sslmode_of(parameters)
    host = parameters.get("host", "/")
    if host.startswith("/") or host in _LOCAL:
        return Finding("ok", "TLS", f"{tls or 'none'}, and the database is on this machine")
    if tls is None and not pooled:
        return Finding("note", "TLS", f"none (sslmode={mode}); set sslmode=verify-full")
    if mode != "verify-full":
        advice = "the server may be anybody; set TMCP_DATABASE_TLS_CA, or sslmode=verify-full and sslrootcert"
        return Finding("note", "TLS", f"{tls or 'as the pooler has it'} (sslmode={mode}): {advice}")
    return Finding("ok", "TLS", f"{tls or 'as the pooler has it'} (sslmode={mode})")


def _of_pooler(*, pooled: bool) -> Finding:
    if not pooled:
        return Finding("ok", "pooler", "none")
    return Finding("ok", "pooler", "there is one: the process that answers is not the one that let us in")


def _of_idling(idle: str | None, major: int) -> Finding:
    if idle not in (None, "0"):
        return Finding("ok", "idle time", f"the server drops a frozen process's connections after {idle}")
    why = "PostgreSQL before 14 cannot" if major < _REAPS_SINCE else "ALTER ROLE ... SET idle_session_timeout"
    return Finding("note", "idle time", f"the server keeps a frozen process's connections for ever ({why})")


async def _of_schema(connection: Connection, database: Database, *, create: bool) -> list[Finding]:
    schema = await database.find_schema()
    findings = [Finding("ok", "schema", f"{schema!r}")]
    for new in (streams_component, info_component, keys_component):
        component = new(schema=schema)
        about = f"tables, {component.kind}"
        try:
            findings.append(await _of_component(connection, component, about, create=create))
        except asyncpg.InsufficientPrivilegeError as error:
            advice = "GRANT it SELECT, INSERT, UPDATE and DELETE on the tables, and USAGE on their schema"
            findings.append(Finding("wrong", about, f"the role may not look at them ({error}): {advice}"))
        except SchemaError as error:
            findings.append(Finding("wrong", about, str(error)))
    return findings


async def _of_component(connection: Connection, component: Component, about: str, *, create: bool) -> Finding:
    async with connection.transaction():
        found, latest = await found_and_latest(connection, component)
    if found < latest and not create:
        said = f"version {found}, and {latest} is needed"
        return Finding("wrong", about, f"{said}: run `tmcp-serverless migrate`")
    async with connection.transaction():
        lacks = lacks_for_migrating if found < latest else lacks_for_use
        lacking = await lacks(connection, component)
    if lacking:
        return Finding("wrong", about, f"version {found}, but {lacking}")
    if found >= latest and (refusal := await _refusal(connection, component)):
        return Finding("wrong", about, f"version {found}, but writing was tried and failed: {refusal}")
    if found < latest:
        said = f"version {found}, the first request will make it {latest}"
        return Finding("note", about, f"{said}; or run `tmcp-serverless migrate`")
    if found > latest:
        return Finding("note", about, f"version {found}, made by a later release than this one")
    return Finding("ok", about, f"version {found}")


async def _refusal(connection: Connection, component: Component) -> str | None:
    try:
        await try_to_write(connection, component)
    except asyncpg.PostgresError as error:
        return repr(error)
    return None


async def _of_namespace(database: Database, settings: Settings) -> Finding:
    try:
        known = await list_namespaces(database)
    except ConfigurationError:
        known = []  # An earlier finding describes the fault of the tables.
    own = "the name of each server" if settings.namespace is None else repr(settings.namespace)
    there = f"; in the database: {', '.join(map(repr, known))}" if known else ""
    return Finding("ok", "namespace", f"{own}{there}")


async def _of_listening(database: Database, settings: Settings) -> Finding:
    setting = database.listen_target.setting
    if settings.doorbell == "poll":
        return Finding("ok", "LISTEN", "not needed: TMCP_DOORBELL is `poll`")
    try:
        connection = await database.connect(listen=True)
    except TmcpError as error:
        return Finding("wrong", "LISTEN", str(error))
    try:
        seconds = await hear_nonce(database, connection)
    finally:
        connection.terminate()
        await database.aclose()
    if seconds is not None:
        return Finding("ok", "LISTEN", f"delivers after {seconds * 1000:.1f} ms ({setting})")
    if database.listen_target is not database.target:
        return Finding("wrong", "LISTEN", f"{setting} is not a direct connection to the same database")
    advice = "set TMCP_LISTEN_URL to a direct connection, or TMCP_DOORBELL=poll"
    if settings.doorbell == "listen":
        return Finding("wrong", "LISTEN", f"does not deliver, and TMCP_DOORBELL is `listen`; {advice}")
    return Finding("note", "LISTEN", f"does not deliver, so streams poll; {advice}")
