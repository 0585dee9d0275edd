"""Lists of sessions and namespaces, for the operator of the database."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tmcp_serverless.postgres.components import info_component, streams_component
from tmcp_serverless.postgres.identifiers import Namespace
from tmcp_serverless.postgres.statements import Statements
from tmcp_serverless.postgres.streams import LEASE_SECONDS

if TYPE_CHECKING:
    from tmcp_serverless.postgres.database import Database

__all__ = ["SessionSummary", "list_namespaces", "list_sessions", "namespaces_of"]


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """One session in its present state."""

    namespace: str
    id: str
    principal: str
    """The session's principal; empty if its requests carry no credential."""

    client: str
    """The client's name and version, as the client gave them."""

    protocol_version: str
    age_seconds: float
    idle_seconds: float
    """The time since its last use, give or take a thousandth of the time that idle sessions are kept."""

    stream_at: str | None
    """The instance with its standalone stream; `None` if that is not open."""

    running: int
    """The number of its requests that have been running for a while."""


async def list_sessions(
    database: Database, *, limit: int, namespace: str | None = None
) -> list[SessionSummary]:
    """Return the sessions that have not expired, of one namespace or of all, the last used first.

    Raises:
        SchemaError: The tables are missing or old; none are made.
        StoreUnavailableError: The database cannot be reached now.

    """
    info = Statements(database, info_component, create=False)
    streams = Statements(database, streams_component, create=False)
    bounds = ("", None) if namespace is None else Namespace(namespace).bounds
    rows = await info.fetch("list", limit, *bounds, idempotent=True)
    leases = await streams.fetch("leases", [row[0] for row in rows], LEASE_SECONDS, idempotent=True)
    places = {session: _place(holder) for session, inside, holder in leases if not inside}
    running = [session for session, inside, _ in leases if inside.startswith("in.")]
    return [
        SessionSummary(
            *Namespace.split(key),
            principal,
            _client(client),
            version,
            age,
            idle,
            places.get(key),
            running.count(key),
        )
        for key, principal, version, client, age, idle in rows
    ]


async def list_namespaces(database: Database, *, create: bool = False) -> list[str]:
    """Return the namespaces that have had a session, or a client's listen stream.

    Raises:
        SchemaError: The tables are missing or old, and `create` is false.
        StoreUnavailableError: The database cannot be reached now.

    """
    found: set[str] = set()
    for component in (streams_component, info_component):
        rows = await Statements(database, component, create=create).fetch("namespaces", idempotent=True)
        found |= {Namespace.unwritten(row[0]) for row in rows}
    return sorted(found)


async def namespaces_of(database: Database, session_id: str) -> list[str]:
    """Return the namespaces that have a session of this id.

    Raises:
        SchemaError: The tables are missing or old; none are made.
        StoreUnavailableError: The database cannot be reached now.

    """
    info = Statements(database, info_component, create=False)
    names = await list_namespaces(database)
    keys = [Namespace(name).key(session_id) for name in names]
    rows = await info.fetch("present", keys, idempotent=True)
    return [Namespace.split(row[0])[0] for row in rows]


def _place(holder: str) -> str:
    return holder.rpartition(" ")[0] or "somewhere"


def _client(stored: str) -> str:
    info = json.loads(stored)
    return f"{info.get('name', '')} {info.get('version', '')}".strip()
