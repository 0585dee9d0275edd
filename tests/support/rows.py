"""Rows as they are in the tables: the keys of the default namespace, and the statements that managers run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tmcp_serverless.postgres.identifiers import Namespace
from tmcp_serverless.postgres.sql_files import load_statements

if TYPE_CHECKING:
    from tmcp_serverless.postgres.components import Component

__all__ = ["key", "statements_of"]

_DEFAULT = Namespace()


def key(address: str) -> str:
    """Return the key of a session's id, or of any other address, of managers without a namespace."""
    return _DEFAULT.key(address)


def statements_of(component: Component) -> dict[str, str]:
    """Return the statements of managers without a namespace."""
    return load_statements(component.kind, {**component.tables, **_DEFAULT.literals()})
