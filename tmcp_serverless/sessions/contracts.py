"""The contracts that the transports work over: live streams, and what survives between requests.

The nouns and verbs are those of TMCP's `session-manager` packages. A subclass that has only the abstract
methods works in every transport; the other methods have defaults over these, and exist so that a store can
do in one round trip what the defaults do in several.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.sessions.ids import mint_session_id
from tmcp_serverless.sessions.records import ANONYMOUS, Json, SessionRecord

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from tmcp_serverless.sessions.records import StreamController

__all__ = ["InfoSessionManager", "SessionManagers", "StreamSessionManager"]

_CONTEXT = "tmcp_serverless/session"
"""The `_meta` key under which the default `initialize` keeps what the abstract methods have no place for."""

_OWN_META = "client_meta"
"""Its member for the `_meta` that the client sent, which need not be an object."""


class _Closable:
    async def check(self) -> None:
        """Find out whether the store can be used now. The default has nothing that could be wrong.

        Raises:
            ConfigurationError: A setting is wrong, or the tables are missing.
            StoreUnavailableError: The store cannot be reached now.

        """

    async def disconnect(self) -> None:
        """Let go of connections that nobody uses now; they are opened again when they are needed."""

    async def aclose(self) -> None:
        """Let go of connections and tasks. Idempotent; the manager cannot be used afterwards."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class StreamSessionManager(_Closable, ABC):
    """Carries messages to the one stream that a session has open, on whatever instance that is.

    Delivery: what `send` returned for is delivered in order and once, to the stream that is open or to the
    next one, as long as it is retained. An id with a slash names a private mailbox (`sessions.ids`):
    broadcasts do not reach it, and it is deleted with its session.
    """

    @abstractmethod
    async def create(self, id: str, controller: StreamController, *, after: str | None = None) -> None:
        """Claim the session's stream for this controller, at once, from whoever holds it.

        From the return on, everything that was and will be sent to `id` after the cursor `after` (default:
        everything not yet delivered) is written to the controller, in order, until the stream is released,
        deleted or superseded. The previous holder is closed and writes nothing that it has not read already.

        Raises:
            InvalidCursorError: `after` is no cursor of this manager.
            StoreUnavailableError: The store cannot be reached.

        """

    @abstractmethod
    async def delete(self, id: str) -> None:
        """End the stream wherever it is, and forget the session's messages. Idempotent, from any process."""

    @abstractmethod
    async def has(self, id: str) -> bool:
        """Return whether a live stream exists: one whose lease was refreshed in the last 10 seconds."""

    @abstractmethod
    async def send(self, sessions: Iterable[str] | None, data: str) -> None:
        """Append a message, JSON text, for the given sessions; `None` is every session, `[]` is nobody.

        When it returns, the message is committed: it is delivered whatever dies afterwards.
        """

    async def append(self, id: str, data: str, *, after: str | None = None) -> str | None:
        """Append a message to one mailbox and return its cursor.

        `after` is the cursor of the message before it, given by the mailbox's only writer: with it, appending
        the same message again, because nobody knows whether the first time worked, changes nothing.

        The default sends it and returns `None`: what is streamed from a request's own mailbox then carries no
        event id, and cannot be resumed.
        """
        del after
        await self.send([id], data)
        return None

    async def deliver(self, id: str, data: str) -> bool:
        """Append a message to a mailbox that exists already; false where there is none.

        The default sends it: a store that cannot tell keeps it until it expires.
        """
        await self.send([id], data)
        return True

    async def interrupt(self, id: str) -> None:
        """End the session's stream wherever it is; nothing is forgotten, and the client comes back."""

    async def prepare(self, id: str) -> None:
        """Say that the session begins now: broadcasts from here on are for it, stream or not."""

    async def release(self, id: str, controller: StreamController) -> None:
        """Say that this controller's stream has ended by itself, as when the client went away.

        Does nothing to a stream that another controller has taken over since. The default deletes the
        session's stream, which is all that the abstract methods offer.
        """
        del controller
        await self.delete(id)

    async def watch(self, controller: StreamController) -> str:
        """Read what concerns everybody, from now on: broadcasts, and what is given to `publish`.

        Any number may watch, on any instance, and nothing is kept for those who are away. Returns the address
        to `release` when it is over. The default opens a stream of nobody's session, which hears broadcasts.
        """
        address = mint_session_id()
        await self.create(address, controller)
        return address

    async def publish(self, data: str) -> None:
        """Append a message for those who watch: one row and one ring, however many they are.

        When it returns, the message is committed, unless nobody has watched yet. The default does nothing.
        """
        del data

    async def sweep(self, *, limit: int = 100) -> int:
        """Remove at most `limit` expired rows of each kind, and return how many went."""
        del limit
        return 0


class InfoSessionManager(_Closable, ABC):
    """Keeps what a session is, for as long as it is used: getters return `None` when there is nothing."""

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


@dataclass(frozen=True, slots=True)
class SessionManagers:
    """The two managers that a transport works over. They may share a database, or use two."""

    streams: StreamSessionManager
    info: InfoSessionManager

    async def check(self) -> None:
        """Find out whether both can be used now.

        Raises:
            ConfigurationError: A setting is wrong, or the tables are missing.
            StoreUnavailableError: A store cannot be reached now.

        """
        await self.streams.check()
        await self.info.check()

    async def disconnect(self) -> None:
        """Let go of the connections that nobody uses now."""
        await self.streams.disconnect()
        await self.info.disconnect()

    async def aclose(self) -> None:
        """Close both."""
        try:
            await self.streams.aclose()
        finally:
            await self.info.aclose()
