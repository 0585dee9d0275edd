"""Request states that any instance can open: the SDK's boundary, under keys that all instances share.

(2026-07-28, basic/patterns/mrtr: a `requestState` is protected by the server that makes it, and may come back
to any instance)
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mcp.server.request_state import (
    AESGCMRequestStateCodec,
    InvalidRequestState,
    RequestStateBoundary,
    RequestStateSecurity,
    authenticated_principal,
)
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS
from mcp_types.methods import INPUT_REQUIRED_METHODS, is_input_required

from tmcp_serverless.errors import ConfigurationError, TmcpError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp.server.request_state import RequestStateCodec

    from tmcp_serverless.transports.asgi import Scope

__all__ = ["SharedRequestState", "StateKeys"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_DEFAULT_SECONDS = 600.0

_MADE_UP_NAME = re.compile(r"(\w+)(-.*)?-[0-9a-f]{4}")
"""What `FastMCP()` calls itself when it is given no name: another one in every process."""


@dataclass(frozen=True, slots=True)
class StateKeys:
    """Where request states get their keys, whose they are, and where it is recorded which have been used."""

    ring: Callable[[], Awaitable[Sequence[str]]]
    """Returns the keys: the first seals, all of them open. Raises where there are none to share."""

    spend: Callable[[str, float], Awaitable[bool]] | None
    """Records that a state was used, for so many seconds; false when it had been. `None`: not asked for."""

    principal: Callable[[Scope], str] | None = None
    """Returns who is asking; `None`: the SDK's authenticated user."""


class SharedRequestState:
    """Middleware that does what `RequestStateBoundary` does, with keys that are fetched when first needed.

    A server's own time to live, principal and audience are kept: `keys.principal` stands in for the SDK's
    default. So is a codec that is not the SDK's; and what the server's own key has sealed is still opened.

    Args:
        own: The server's boundary; `None` where it has none.
        keys: The shared keys.

    """

    def __init__(self, own: RequestStateBoundary | None, keys: StateKeys) -> None:
        self._own = own
        self._keys = keys
        self._boundary: RequestStateBoundary | None = None

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Open the state that the client brings back, and seal the one that it is given."""
        if ctx.method not in INPUT_REQUIRED_METHODS:
            return await call_next(ctx)
        state = (ctx.params or {}).get("requestState")
        if state is not None:
            return await (await self._ready())(ctx, self._once(state, call_next))
        result = await call_next(ctx)
        if not is_input_required(result):
            return result

        async def answered(_: ServerRequestContext[Any, Any]) -> HandlerResult:
            return result

        return await (await self._ready())(ctx, answered)

    def _once(self, state: Any, call_next: CallNext) -> CallNext:
        """Return what comes behind the boundary, which lets pass only what is genuine."""
        spend = self._keys.spend
        if spend is None:
            return call_next

        async def spent_then(ctx: ServerRequestContext[Any, Any]) -> HandlerResult:
            digest = hashlib.sha256(str(state).encode()).hexdigest()
            if not await _guarded(spend(digest, self._lifetime_seconds())):
                logger.warning("requestState rejected on %s: it has been used before", ctx.method)
                raise MCPError(
                    code=INVALID_PARAMS,
                    message="Invalid or expired requestState",
                    data={"reason": "invalid_request_state"},
                )
            return await call_next(ctx)

        return spent_then

    def _lifetime_seconds(self) -> float:
        return _policy_of(self._own)[0].ttl if self._own is not None else _DEFAULT_SECONDS

    async def _ready(self) -> RequestStateBoundary:
        if self._boundary is None:
            own, principal = self._own, self._keys.principal
            theirs = None if own is None else _policy_of(own)[0].codec
            if theirs is None or type(theirs) is AESGCMRequestStateCodec:
                ring = AESGCMRequestStateCodec(list(await _guarded(self._keys.ring())))
                codec = ring if theirs is None else _RingAndOwn(ring, theirs)
                self._boundary = _boundary(own, codec, principal)
            elif own is None or principal is not None:
                self._boundary = _boundary(own, theirs, principal)
            else:
                self._boundary = own
        return self._boundary


class _RingAndOwn:
    """Seals with the shared keys; opens what these or the server's own have sealed."""

    def __init__(self, ring: RequestStateCodec, own: RequestStateCodec) -> None:
        self._ring = ring
        self._own = own

    def seal(self, payload: bytes) -> str:
        """Return the sealed state."""
        return self._ring.seal(payload)

    def unseal(self, token: str) -> bytes:
        """Return what was sealed."""
        try:
            return self._ring.unseal(token)
        except InvalidRequestState:
            return self._own.unseal(token)


def _policy_of(boundary: RequestStateBoundary) -> tuple[RequestStateSecurity, str | None]:
    own = cast("Any", boundary)
    return own._security, own._audience  # noqa: SLF001 - relied upon


def _boundary(
    own: RequestStateBoundary | None, codec: RequestStateCodec, principal: Callable[[Scope], str] | None
) -> RequestStateBoundary:
    if own is None:
        policy, audience = RequestStateSecurity(codec=codec, ttl=_DEFAULT_SECONDS), None
    else:
        policy, audience = _policy_of(own)
    bind = policy.bind_principal
    if principal is not None and bind is authenticated_principal:
        bind = _bound_to(principal)
    security = RequestStateSecurity(codec=codec, ttl=policy.ttl, bind_principal=bind)
    made_up = _MADE_UP_NAME.fullmatch(audience or "")
    return RequestStateBoundary(security, default_audience=made_up[1] if made_up else audience)


def _bound_to(principal: Callable[[Scope], str]) -> Callable[[ServerRequestContext[Any, Any]], str | None]:
    """Return what tells the SDK who is asking; nobody, who is `ANONYMOUS` to us, is `None` there."""
    return lambda ctx: principal(cast("Any", ctx.request).scope) or None


async def _guarded(work: Awaitable[_T]) -> _T:
    """Wait for the store, and refuse the request where it cannot help: nothing runs on a state unopened."""
    try:
        return await work
    except ConfigurationError as error:
        logger.error("this server cannot ask for input: %s", error)  # noqa: TRY400 - one sentence says it
        raise MCPError(INTERNAL_ERROR, f"This server cannot ask for input: {error}") from None
    except TmcpError as error:
        raise MCPError(INTERNAL_ERROR, "The session store cannot be reached; try again") from error
