"""The sets of tables, each with its names and its migrations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Protocol

from tmcp_serverless.postgres.identifiers import TableNames, derived, quote, sibling
from tmcp_serverless.postgres.sql_files import fill

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Component", "NewComponent", "info_component", "keys_component", "streams_component"]

_FILE = re.compile(r"(\w+)_(\d{4})\.sql")
_VERSIONS_TABLE = "tmcp_schema"


@dataclass(frozen=True, slots=True)
class Component:
    """A set of tables that is migrated together."""

    kind: str
    """The migrations' file name before the number."""

    tables: Mapping[str, str]
    """The quoted values of `{name}` in the files: the tables, and the views and functions on them."""

    versions: str
    """The table that holds the version, quoted."""

    views: frozenset[str] = frozenset()
    """The names in `tables` that are views. No statement of a manager uses them."""

    added: frozenset[str] = frozenset()
    """The names in `tables` that later migrations have added."""

    replaced: str | None = None
    """The name of a development version's record. Its tables were others and are not brought up to date."""

    schema: str | None = None
    """The schema of tables without one in their names; `None`: the first that the role may use."""

    @property
    def place(self) -> str:
        """The schema's name in error messages."""
        return "the first usable schema" if self.schema is None else f"the schema {self.schema!r}"

    @property
    def name(self) -> str:
        """The name of the version's record: the kind, and the tables of its first version.

        It is the same in every schema, for the record stands beside the tables.
        """
        beside = self.versions.removesuffix(quote(_VERSIONS_TABLE))
        first = (table for name, table in self.tables.items() if name not in self.added)
        return _recorded(self.kind, first, beside)

    @property
    def used(self) -> list[str]:
        """The tables and functions that the managers' statements name, quoted."""
        return [table for name, table in self.tables.items() if name not in self.views]

    def migrations(self) -> list[tuple[int, str]]:
        """Return the version numbers and their SQL, in order."""
        folder = files("tmcp_serverless.postgres").joinpath("migrations")
        found: list[tuple[int, str]] = []
        for entry in folder.iterdir():
            match = _FILE.fullmatch(entry.name)
            if match is not None and match[1] == self.kind:
                found.append((int(match[2]), fill(entry.read_text(encoding="utf-8"), self.tables)))
        return sorted(found)


def streams_component(table_name: str = "tmcp_sessions", *, schema: str | None = None) -> Component:
    """Return the tables of live streams and mailboxes."""
    stem = "tmcp" if table_name == "tmcp_sessions" else table_name
    tables = {
        "leases": quote(table_name, schema=schema),
        "mailboxes": derived(stem, "_mailboxes", schema=schema),
        "messages": derived(stem, "_messages", schema=schema),
        "forget": derived(stem, "_forget", schema=schema),
    }
    versions = sibling(table_name, _VERSIONS_TABLE, schema=schema)
    former = [table for name, table in tables.items() if name != "forget"]
    return Component(
        "streams", tables, versions, schema=schema, replaced=_formerly("streams", former, versions)
    )


def info_component(names: TableNames | None = None, *, schema: str | None = None) -> Component:
    """Return the tables of session metadata."""
    names = names or TableNames()
    stem = "tmcp" if names.context == TableNames().context else names.context
    values = {
        "client_capabilities": quote(names.client_capabilities, schema=schema),
        "client_info": quote(names.client_info, schema=schema),
        "log_level": quote(names.log_level, schema=schema),
    }
    tables = {
        "subscriptions": quote(names.subscriptions, schema=schema),
        "context": quote(names.context, schema=schema),
    }
    versions = sibling(names.context, _VERSIONS_TABLE, schema=schema)
    return Component(
        "info",
        {**values, **tables, "slide": derived(stem, "_slide", schema=schema)},
        versions,
        schema=schema,
        views=frozenset(values),
        replaced=_formerly("info", [*values.values(), *tables.values()], versions),
    )


def keys_component(table_name: str = "tmcp_secrets", *, schema: str | None = None) -> Component:
    """Return the tables of shared secrets and spent tokens."""
    stem = "tmcp" if table_name == "tmcp_secrets" else table_name
    tables = {
        "secrets": quote(table_name, schema=schema),
        "spent": derived(stem, "_spent", schema=schema),
    }
    return Component("keys", tables, sibling(table_name, _VERSIONS_TABLE, schema=schema), schema=schema)


def _formerly(kind: str, tables: Iterable[str], versions: str) -> str:
    return _recorded(kind, tables, versions.removesuffix(quote(_VERSIONS_TABLE)))


def _recorded(kind: str, tables: Iterable[str], beside: str) -> str:
    return f"{kind}: {', '.join(sorted(table.removeprefix(beside) for table in tables))}"


class NewComponent(Protocol):
    """Returns a component in a schema; `None` for a schema that is not known yet."""

    def __call__(self, *, schema: str | None) -> Component:
        """Return the component."""
        ...
