"""Names of schemas and tables, quoted here alone, and the keys of one server's part of the tables.

A key is `<namespace>:<address>`. The address is a session's id, a mailbox, a topic, a secret's name or a
token. A namespace is any text that people name servers by. Its characters that would end it early, or that
have a meaning in a statement, are escaped as in a URL: `%3A`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import unquote

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.forms import DEFAULT_NAMESPACE, check_namespace
from tmcp_serverless.sessions.addresses import BROADCAST, EVENTS

__all__ = [
    "DEFAULT_NAMESPACE",
    "Namespace",
    "TableNames",
    "checked_schema",
    "derived",
    "quote",
    "quote_identifier",
    "sibling",
]

# A literal in a statement has quotes, and backslashes if `standard_conforming_strings` is off.
_ESCAPED = str.maketrans({character: f"%{ord(character):02X}" for character in "%:/'\\{}"})
_END = ":"
_BEHIND = ";"
"""The character after `:`, in the order that keys have."""

_PART = re.compile(r'"(?:[^"]|"")+"(?=\.|$)|[^.]+')
_QUOTED = re.compile(r'^"((?:[^"]|"")+)"$')
_LONGEST = 63
"""The bytes of an identifier that Postgres keeps. It cuts the rest off without an error."""


@dataclass(frozen=True, slots=True)
class TableNames:
    """The names of the tables that hold session metadata.

    A name may be any identifier: mixed case, hyphens, `schema.table`. A part that contains a dot is written
    in double quotes.
    """

    client_capabilities: str = "tmcp_session_client_capabilities"
    client_info: str = "tmcp_session_client_info"
    log_level: str = "tmcp_session_log_level"
    subscriptions: str = "tmcp_session_subscriptions"
    context: str = "tmcp_session_context"


def _parts(name: str, schema: str | None = None) -> list[str]:
    """Return the schema, if the name or `schema` gives one, and the table."""
    found = _PART.findall(name)
    if len(found) not in (1, 2) or ".".join(found) != name or "\0" in name:
        raise ConfigurationError(f"not a table name: {name!r} (expected `table` or `schema.table`)")
    parts = [_QUOTED.sub(lambda match: match[1].replace('""', '"'), part) for part in found]
    for part in parts:
        if len(part.encode()) > _LONGEST:
            raise ConfigurationError(f"table name {part!r} has more than the {_LONGEST} bytes Postgres keeps")
    return [schema, *parts] if schema is not None and len(parts) == 1 else parts


def quote_identifier(part: str) -> str:
    """Return an identifier of the catalog in double quotes, for a statement."""
    return '"' + part.replace('"', '""') + '"'


def checked_schema(name: str) -> str:
    """Return a schema's name as in the catalog, without the quotes around it if there are any.

    Raises:
        ConfigurationError: The name is empty, has more than one part, or is too long to be told apart.

    """
    found = _PART.findall(name)
    if found != [name] or "\0" in name:
        raise ConfigurationError(
            f"not a schema's name: {name!r} (one with a dot is written in double quotes)"
        )
    [part] = _parts(name)
    return part


def quote(name: str, *, schema: str | None = None) -> str:
    """Return the name for a statement: every part in double quotes.

    `schema` is the schema of a name without one.

    Raises:
        ConfigurationError: The name is empty, has more than two parts, or has one too long to be told apart.

    """
    return ".".join(quote_identifier(part) for part in _parts(name, schema))


def derived(name: str, suffix: str, *, schema: str | None = None) -> str:
    """Return the name of a further table beside this one, in the same schema, quoted.

    A name that would grow too long keeps its beginning and gets a hash, so that two names never become one.
    """
    *before, table = _parts(name, schema)
    grown = table + suffix
    if len(grown.encode()) > _LONGEST:
        digest = hashlib.sha256(table.encode()).hexdigest()[:12]
        kept = table.encode()[: _LONGEST - len(suffix) - 13].decode(errors="ignore")
        grown = f"{kept}_{digest}{suffix}"
    return ".".join(quote_identifier(part) for part in [*before, grown])


def sibling(name: str, table: str, *, schema: str | None = None) -> str:
    """Return the name of another table in the same schema, quoted."""
    *before, _ = _parts(name, schema)
    return ".".join(quote_identifier(part) for part in [*before, table])


class Namespace:
    """A namespace, and the keys in it.

    Raises:
        ConfigurationError: The name cannot be a namespace: see `check_namespace`.

    """

    def __init__(self, name: str = DEFAULT_NAMESPACE) -> None:
        try:
            self.name = check_namespace(name)
            """The namespace's name, as given."""
        except ValueError as error:
            raise ConfigurationError(str(error)) from None

        written = name.translate(_ESCAPED)
        self.bounds = written + _END, written + _BEHIND
        """The bounds of this namespace's keys: the lower one inclusive, the upper one exclusive."""

    def key(self, address: str) -> str:
        """Return the key of an address."""
        return self.bounds[0] + address

    def address(self, key: str) -> str:
        """Return the address of a key of this namespace."""
        return key[len(self.bounds[0]) :]

    def literals(self) -> dict[str, str]:
        """Return the keys in statements as literals, by their names there."""
        return {"broadcast": f"'{self.key(BROADCAST)}'", "events": f"'{self.key(EVENTS)}'"}

    @staticmethod
    def split(key: str) -> tuple[str, str]:
        """Return the namespace's name and the address of any key."""
        written, _, address = key.partition(_END)
        return unquote(written), address

    @staticmethod
    def unwritten(prefix: str) -> str:
        """Return the name of the namespace of keys with this prefix."""
        return unquote(prefix)
