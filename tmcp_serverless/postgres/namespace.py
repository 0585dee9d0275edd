"""One server's part of the tables: everything is stored under a key that begins with its namespace.

A key is `<namespace>:<address>`. The address is a session's id, a mailbox, a topic, a secret's name or a
token. A namespace is any text that people name servers by. Its characters that would end it early, or that
have a meaning in a statement, are escaped as in a URL: `%3A`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.forms import DEFAULT_NAMESPACE, check_namespace
from tmcp_serverless.sessions.addresses import BROADCAST, EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DEFAULT_NAMESPACE", "Namespace"]

# A literal in a statement has quotes, and backslashes if `standard_conforming_strings` is off.
_ESCAPED = str.maketrans({character: f"%{ord(character):02X}" for character in "%:/'\\{}"})
_END = ":"
_BEHIND = ";"
"""The character after `:`, in the order that keys have."""


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

    def keys(self, addresses: Iterable[str]) -> list[str]:
        """Return the keys of several addresses."""
        return [self.bounds[0] + address for address in addresses]

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
