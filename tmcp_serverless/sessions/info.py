"""The contract for sessions' metadata: the data that survive between requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from tmcp_serverless.closable import Store
from tmcp_serverless.errors import LimitReachedError
from tmcp_serverless.sessions.records import ANONYMOUS, Json, SessionRecord

__all__ = ["InfoSessionManager", "too_many_subscriptions"]

_CONTEXT = "tmcp_serverless/session"
"""The `_meta` key of the default `initialize`, for the values that the abstract methods have no place for."""

_OWN_META = "client_meta"
"""Its member for the `_meta` that the client sent. That need not be an object."""


class InfoSessionManager(Store, ABC):
    """Keeps sessions' metadata for as long as they are used. Getters return `None` when there is no value.

    Every method raises `StoreUnavailableError` when the store cannot be reached (retrying later may work) and
    `ConfigurationError` or `SchemaError` when it cannot be used as configured. A write may have been
    committed when it raises.
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
        """Subscribe the session to the resource. Idempotent.

        Raises:
            LimitReachedError: The session has as many subscriptions as the manager allows.

        """

    @abstractmethod
    async def delete(self, id: str) -> None:
        """Forget the session, its metadata and its subscriptions, and nothing of any other. Idempotent."""

    async def remove_subscription(self, id: str, uri: str) -> None:
        """Remove the subscription. Idempotent.

        The default raises. Servers over a manager without this method do not offer `resources/unsubscribe`:
        see `can_remove_subscriptions`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no remove_subscription")

    @property
    def can_remove_subscriptions(self) -> bool:
        """True if `remove_subscription` is implemented."""
        return type(self).remove_subscription is not InfoSessionManager.remove_subscription

    async def initialize(self, id: str, record: SessionRecord, *, only_if_exists: bool = False) -> bool:
        """Store a session whole. When it returns true, any instance can `load` it.

        `only_if_exists`: store the result of another `initialize` of the principal's session, and return
        false if there is no such session. A session that is deleted meanwhile stays deleted, and another
        principal's stays as it is. The default loads the session first, and does not notice a deletion in
        between.
        """
        if only_if_exists and await self.load(id, principal=record.principal) is None:
            return False
        await self._store(id, record)
        return True

    async def _store(self, id: str, record: SessionRecord) -> None:
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

    async def update(self, id: str, *, log_level: str | None = None, initialized: bool | None = None) -> None:
        """Store the given values, if the session exists. `None` leaves a value as it is."""
        if log_level is not None:
            await self.set_log_level(id, log_level)
        info = await self.get_client_info(id) if initialized is not None else None
        stored: Any = (info or {}).get("_meta")
        if info is not None and isinstance(stored, dict) and _CONTEXT in stored:
            meta = {**stored, _CONTEXT: {**stored[_CONTEXT], "initialized": initialized}}
            await self.set_client_info(id, {**info, "_meta": meta})

    async def surplus(self, principal: str, *, keep: int) -> list[str]:
        """Return ids of the principal's sessions beyond the `keep` that were used last, at most a hundred.

        The default returns none: a user's sessions are not counted.
        """
        del principal, keep
        return []

    async def sweep(self, *, limit: int = 100) -> int:
        """Remove at most `limit` expired sessions, and return the number removed.

        A session with very many subscriptions goes in several calls. Its removed rows are counted then.
        """
        del limit
        return 0


def too_many_subscriptions(most: int) -> LimitReachedError:
    """Return the error of a session that has as many subscriptions as it may have."""
    return LimitReachedError(
        f"the session has {most} subscriptions, the most (TMCP_MAX_SUBSCRIPTIONS): unsubscribe from some"
    )
