"""The contract for the shared secrets and tokens of request states, and its in-memory implementation."""

from __future__ import annotations

import time
from typing import Protocol, runtime_checkable

from tmcp_serverless.closable import Store

__all__ = ["InMemoryKeyStore", "KeyStore"]


@runtime_checkable
class KeyStore(Protocol):
    """Secrets that all instances share, and tokens that may be used once.

    Both methods raise `StoreUnavailableError` when the store cannot be reached (retrying later may work), and
    `ConfigurationError` or `SchemaError` when it cannot be used as configured.
    """

    async def secret(self, name: str, proposed: str) -> str:
        """Return the secret of this name that all instances share: the first that was proposed."""
        ...

    async def spend(self, token: str, *, seconds: float) -> bool:
        """Record for so many seconds that a token of this digest was used; false if it was used before."""
        ...


class InMemoryKeyStore(Store):
    """Secrets and spent tokens in the memory of one process."""

    def __init__(self) -> None:
        self._secrets: dict[str, str] = {}
        self._spent: dict[str, float] = {}

    async def secret(self, name: str, proposed: str) -> str:
        """Return the secret of this name."""
        return self._secrets.setdefault(name, proposed)

    async def spend(self, token: str, *, seconds: float) -> bool:
        """Record that the token was used."""
        now = time.monotonic()
        self._spent = {spent: until for spent, until in self._spent.items() if until > now}
        if token in self._spent:
            return False
        self._spent[token] = now + seconds
        return True
