"""Changes that a request makes to its session: the log level, and the subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.transports.asgi import INTERNAL_ERROR, INVALID_PARAMS
from tmcp_serverless.transports.jsonrpc import error_answer

if TYPE_CHECKING:
    from tmcp_serverless.sessions.info import InfoSessionManager
    from tmcp_serverless.sessions.records import Json

__all__ = ["RECORDED", "is_offered", "record"]

RECORDED = frozenset({"logging/setLevel", "resources/subscribe", "resources/unsubscribe"})
"""Requests that `record` is for."""

_LONGEST_URI_BYTES = 2_000
"""Size that an index entry of Postgres holds, with room to spare."""


def is_offered(info: InfoSessionManager, method: str) -> bool:
    """Return `True` if the manager supports the request: `resources/unsubscribe` is optional."""
    return method != "resources/unsubscribe" or info.can_remove_subscriptions


async def record(info: InfoSessionManager, id: str, message: Json) -> Json | None:
    """Store the request's change to its session before it is answered; return an error if that failed."""
    params = message["params"]
    try:
        if message["method"] == "logging/setLevel":
            await info.update(id, log_level=params["level"])
            return None
        uri: str = params["uri"]
        if "\0" in uri or len(uri.encode()) > _LONGEST_URI_BYTES:
            text = f"uri has a NUL character or is longer than {_LONGEST_URI_BYTES} bytes"
            return error_answer(message, INVALID_PARAMS, text)
        if message["method"] == "resources/subscribe":
            await info.add_subscription(id, uri)
        else:
            await info.remove_subscription(id, uri)
    except StoreUnavailableError:
        return error_answer(message, INTERNAL_ERROR, "The session store cannot be reached; try again")
    return None
