"""SQLSTATE codes and their meaning for the kit (postgresql.org/docs/current/errcodes-appendix.html).

The kit's statements are the same everywhere. So an error has one of three causes: the state of the server or
the database at the moment, a database that is not set up as the kit needs, or a mistake in a statement of the
kit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Meaning", "meaning_of"]

Meaning: TypeAlias = Literal["outage", "busy", "pooled", "schema", "configuration", "bug"]
"""`outage`, `busy`: trying again later may work. `pooled`: a pooler has lost a prepared statement. `schema`:
the tables are not there. `configuration`: the database has to be changed. `bug`: the statement is wrong.
"""

_CLASSES: Mapping[str, Meaning] = {
    "00": "bug",  # successful completion
    "01": "bug",  # warnings
    "02": "bug",  # no data
    "03": "bug",  # statement not yet complete
    "08": "outage",  # connection
    "09": "configuration",  # triggered action: the kit has no triggers
    "0A": "configuration",  # feature not supported: another kind of database
    "0B": "bug",  # transaction initiation
    "0F": "bug",  # locators
    "0L": "configuration",  # grantor
    "0P": "configuration",  # role
    "0Z": "bug",  # diagnostics
    "10": "bug",  # XQuery
    "20": "bug",  # case not found
    "21": "bug",  # cardinality
    "22": "bug",  # data
    "23": "bug",  # integrity
    "24": "bug",  # cursor state
    "25": "outage",  # transaction state: it is another client's, left on a pooled connection
    "26": "pooled",  # statement name
    "27": "configuration",  # triggered data change
    "28": "configuration",  # authorization
    "2B": "bug",  # dependent privileges
    "2D": "bug",  # transaction termination
    "2F": "configuration",  # SQL routines: a trigger that is not the kit's
    "34": "bug",  # cursor name
    "38": "configuration",  # external routines: a trigger that is not the kit's
    "39": "configuration",  # their invocation
    "3B": "bug",  # savepoints
    "3D": "configuration",  # catalog name
    "3F": "schema",  # schema name
    "40": "busy",  # rolled back
    "42": "bug",  # syntax or access
    "44": "configuration",  # WITH CHECK OPTION: a view in a table's place
    "53": "outage",  # resources: disk, memory, connections
    "54": "outage",  # program limits: the NOTIFY queue, transaction ids
    "55": "outage",  # prerequisite state: locks, objects in use
    "57": "outage",  # operator intervention
    "58": "outage",  # the system beneath
    "72": "busy",  # snapshot too old
    "F0": "outage",  # the server's configuration files
    "HV": "outage",  # foreign data wrappers: another server
    "P0": "configuration",  # PL/pgSQL: a trigger that is not the kit's
    "XX": "outage",  # internal
}

_CODES: Mapping[str, Meaning] = {
    "22021": "configuration",  # character not in repertoire: the encoding
    "22P05": "configuration",  # untranslatable character: the encoding
    "42501": "configuration",  # insufficient privilege, row-level security
    "42703": "schema",  # undefined column
    "42883": "schema",  # undefined function
    "42P01": "schema",  # undefined table
    "42804": "configuration",  # datatype mismatch: a column of another type
    "42809": "configuration",  # wrong object type: something else has a table's name
    "428C9": "configuration",  # generated always: a changed column
    "42P10": "configuration",  # invalid column reference: a unique index is missing
    "42P05": "pooled",  # duplicate prepared statement
    "54011": "bug",  # too many columns
    "54023": "bug",  # too many arguments
    "55P02": "configuration",  # cannot change runtime parameter
    "55P04": "bug",  # unsafe new enum value
}
"""The codes with another meaning than their class."""


def meaning_of(sqlstate: str | None) -> Meaning:
    """Return the meaning of a code. Unknown classes, of other servers and poolers, are outages."""
    code = sqlstate or ""
    return _CODES.get(code) or _CLASSES.get(code[:2], "outage")
