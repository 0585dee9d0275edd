"""The contract for what survives between requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.sessions.manager import SessionManager
from tmcp_serverless.sessions.records import ANONYMOUS, Json, SessionRecord

__all__ = ["InfoSessionManager"]

_CONTEXT = "tmcp_serverless/session"
"""The `_meta` key under which the default `initialize` keeps what the abstract methods have no place for."""

_OWN_META = "client_meta"
"""Its member for the `_meta` that the client sent, which need not be an object."""


class InfoSessionManager(SessionManager, ABC):
    """Keeps what a session is, for as long as it is used: getters return `None` when there is nothing.

    Every method raises `StoreUnavailableError` when the store cannot be reached (retrying later may work) and
    `ConfigurationError` or `SchemaError` when it cannot be used as configured. What was to be stored may have
    been committed when they raise.
    """

    @abstractmethod
    async def get_client_info(self, id: str) -> Json | None:
        """Return the client's `Implementation` object."""

    @abstractmethod
    async def set_client_info(self, id: str, value: Json) -> None:
        """Store the client's `Implementation` object."""

    @abstractmethod
    async def get_client_capabilities(self, id: str) -> Json | None:
        """Return the client's `ClientCapabilities` object."""

    @abstractmethod
    async def set_client_capabilities(self, id: str, value: Json) -> None:
        """Store the client's `ClientCapabilities` object."""

    @abstractmethod
    async def get_log_level(self, id: str) -> str | None:
        """Return the level that `logging/setLevel` set."""

    @abstractmethod
    async def set_log_level(self, id: str, value: str) -> None:
        """Store the level that `logging/setLevel` set."""

    @abstractmethod
    async def get_subscriptions(self, uri: str) -> set[str]:
        """Return the ids of the live sessions that are subscribed to the resource."""

    @abstractmethod
    async def add_subscription(self, id: str, uri: str) -> None:
        """Subscribe the session to the resource. Idempotent; a session may have any number."""

    @abstractmethod
    async def remove_subscription(self, id: str, uri: str) -> None:
        """Take the subscription back. Idempotent."""

    @abstractmethod
    async def delete(self, id: str) -> None:
        """Forget the session, its metadata and its subscriptions, and nothing of any other. Idempotent."""

    async def initialize(self, id: str, record: SessionRecord) -> None:
        """Store a new session whole. When it returns, any instance can `load` it."""
        context: Json = {
            "protocol_version": record.protocol_version,
            "principal": record.principal,
            "initialized": record.initialized,
        }
        meta = record.client_info.get("_meta")
        if "_meta" in record.client_info:
            context[_OWN_META] = meta
        meta = {**meta, _CONTEXT: context} if isinstance(meta, dict) else {_CONTEXT: context}
        await self.set_client_capabilities(id, record.client_capabilities)
        if record.log_level is not None:
            await self.set_log_level(id, record.log_level)
        # Last, because `load` goes by it: a session exists when it is whole.
        await self.set_client_info(id, {**record.client_info, "_meta": meta})

    async def renew(self, id: str, record: SessionRecord) -> bool:
        """Store what another `initialize` settled of a session that is there; false where it is not.

        A session that is deleted meanwhile stays deleted, and another principal's stays what it is. The
        default loads it first, so that of a deletion in between nothing is seen.
        """
        if await self.load(id, principal=record.principal) is None:
            return False
        await self.initialize(id, record)
        return True

    async def load(self, id: str, *, principal: str = ANONYMOUS) -> SessionRecord | None:
        """Return the principal's session and slide its idle clock; `None` becomes HTTP 404.

        `None` for an unknown, expired or deleted id, and for another principal's session: a caller cannot
        tell these apart.
        """
        info = await self.get_client_info(id)
        stored: Any = (info or {}).get("_meta")
        if info is None or not isinstance(stored, dict) or _CONTEXT not in stored:
            return None
        context, client_info = dict(stored[_CONTEXT]), dict(info)
        if context["principal"] != principal:
            return None
        del client_info["_meta"]
        if _OWN_META in context:
            client_info["_meta"] = context.pop(_OWN_META)
        return SessionRecord(
            client_info=client_info,
            client_capabilities=await self.get_client_capabilities(id) or {},
            log_level=await self.get_log_level(id),
            **context,
        )

    async def mark_initialized(self, id: str) -> None:
        """Record that the client has sent `notifications/initialized`. Idempotent."""
        info = await self.get_client_info(id)
        stored: Any = (info or {}).get("_meta")
        if isinstance(stored, dict) and _CONTEXT in stored:
            meta = {**stored, _CONTEXT: {**stored[_CONTEXT], "initialized": True}}
            await self.set_client_info(id, {**(info or {}), "_meta": meta})

    async def secret(self, name: str, proposed: str) -> str | None:
        """Return the secret of this name that all instances share: the first that was proposed.

        The default returns `None`: there is no place for one.
        """
        del name, proposed
        return None

    async def spend(self, token: str, *, seconds: float) -> bool:
        """Record that a token of this digest was used; false when it had been used before.

        `seconds`: how long that must be remembered. A manager that offers no such record raises.

        Raises:
            ConfigurationError: It does not.

        """
        del token, seconds
        raise ConfigurationError("this session manager keeps no record of what may be used once")

    async def sweep(self, *, limit: int = 100) -> int:
        """Remove at most `limit` expired rows of each kind, and return how many went."""
        del limit
        return 0
