"""Request states that any instance can open: the SDK's boundary, under keys that all instances share.

(2026-07-28, basic/patterns/mrtr: a `requestState` is protected by the server that makes it, and may come back
to any instance)
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcp.server.auth.provider import principal_components
from mcp.server.request_state import (
    AESGCMRequestStateCodec,
    InvalidRequestState,
    RequestStateBoundary,
    RequestStateSecurity,
    authenticated_principal,
    compact_json,
)
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from mcp_types.methods import INPUT_REQUIRED_METHODS, is_input_required

from tmcp_serverless.modern.refusing import refusing, scope_of
from tmcp_serverless.sdk.connection import principal_of
from tmcp_serverless.sdk.private import request_state_policy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp.server.request_state import RequestStateCodec

    from tmcp_serverless.http import Scope
    from tmcp_serverless.sessions import KeyStore

__all__ = ["SharedRequestState", "StateKeys"]

logger = logging.getLogger(__name__)

_DEFAULT_SECONDS = 600.0

_MADE_UP_NAME = re.compile(r"(\w+)(-.*)?-[0-9a-f]{4}")
"""The name of a `FastMCP()` that was given none: another one in every process."""


@dataclass(frozen=True, slots=True)
class StateKeys:
    """The keys of request states, their principals, and the record of used states."""

    ring: Callable[[], Awaitable[Sequence[str]]]
    """Returns the keys: the first seals, all of them open. Raises if there are none to share."""

    used: KeyStore | None
    """The store of the states that were used; `None`: a state may be used any number of times."""

    principal: Callable[[Scope], str] | None = None
    """Returns the principal; `None`: the one that the authentication before us found, as for sessions."""


class SharedRequestState:
    """Middleware like `RequestStateBoundary`, with keys that are fetched when first needed.

    A server's own time to live, principal and audience are kept: `keys.principal` stands in for the SDK's
    default. So is a codec that is not the SDK's. States sealed with the server's own key are still opened.

    Args:
        own: The server's boundary; `None` if it has none.
        keys: The shared keys.
        audience: The server's name, if it has no boundary: other servers may share the keys.

    """

    def __init__(
        self, own: RequestStateBoundary | None, keys: StateKeys, *, audience: str | None = None
    ) -> None:
        self._own = own
        self._keys = keys
        self._audience = audience
        self._boundary: RequestStateBoundary | None = None

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Open the state that the client brings back, and seal the state that it is given."""
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
        """Return the step behind the boundary: it lets each genuine state pass once, if uses are recorded."""
        used = self._keys.used
        if used is None:
            return call_next

        async def spent_then(ctx: ServerRequestContext[Any, Any]) -> HandlerResult:
            digest = hashlib.sha256(str(state).encode()).hexdigest()
            with refusing():
                fresh = await used.spend(digest, seconds=self._lifetime_seconds())
            if not fresh:
                logger.warning("requestState rejected on %s: it has been used before", ctx.method)
                raise MCPError(
                    code=INVALID_PARAMS,
                    message="Invalid or expired requestState",
                    data={"reason": "invalid_request_state"},
                )
            return await call_next(ctx)

        return spent_then

    def _lifetime_seconds(self) -> float:
        return request_state_policy(self._own)[0].ttl if self._own is not None else _DEFAULT_SECONDS

    async def _ready(self) -> RequestStateBoundary:
        if self._boundary is None:
            codec: RequestStateCodec | None = None
            if self._own is not None:
                codec = request_state_policy(self._own)[0].codec
            if codec is None or type(codec) is AESGCMRequestStateCodec:
                with refusing():
                    ring = AESGCMRequestStateCodec(list(await self._keys.ring()))
                codec = ring if codec is None else _RingAndOwn(ring, codec)
            self._boundary = self._made(codec)
        return self._boundary

    def _made(self, codec: RequestStateCodec) -> RequestStateBoundary:
        """Return a boundary around this codec: the server's, or one like the SDK's own."""
        if self._own is None:
            policy, audience = RequestStateSecurity(codec=codec, ttl=_DEFAULT_SECONDS), self._audience
        else:
            policy, audience = request_state_policy(self._own)
            if made_up := _MADE_UP_NAME.fullmatch(audience or ""):
                audience = made_up[1]
        bind = policy.bind_principal
        if bind is authenticated_principal:
            bind = _authenticated if self._keys.principal is None else _bound_to(self._keys.principal)
        security = RequestStateSecurity(codec=codec, ttl=policy.ttl, bind_principal=bind)
        return RequestStateBoundary(security, default_audience=audience)


class _RingAndOwn:
    """A codec that seals with the shared keys, and opens with these and with the server's own."""

    def __init__(self, ring: RequestStateCodec, own: RequestStateCodec) -> None:
        self._ring = ring
        self._own = own

    def seal(self, payload: bytes) -> str:
        """Return the sealed state."""
        return self._ring.seal(payload)

    def unseal(self, token: str) -> bytes:
        """Return the payload of a sealed state."""
        try:
            return self._ring.unseal(token)
        except InvalidRequestState:
            return self._own.unseal(token)


def _authenticated(ctx: ServerRequestContext[Any, Any]) -> str | None:
    """Return the principal, as sessions know it."""
    scope = scope_of(ctx)
    token = getattr(scope.get("user"), "access_token", None)
    if token is not None:
        # In the form of `authenticated_principal`: states sealed without the kit are opened.
        return compact_json(principal_components(token))
    return principal_of(scope) or authenticated_principal(ctx)


def _bound_to(principal: Callable[[Scope], str]) -> Callable[[ServerRequestContext[Any, Any]], str | None]:
    """Return a function that gives the SDK the principal; our `ANONYMOUS` is `None` there."""
    return lambda ctx: principal(scope_of(ctx)) or None
