"""What a request changes about its session: the log level, and what it is subscribed to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.transports.asgi import INTERNAL_ERROR, INVALID_PARAMS
from tmcp_serverless.transports.jsonrpc import error_answer

if TYPE_CHECKING:
    from tmcp_serverless.sessions.contracts import InfoSessionManager
    from tmcp_serverless.sessions.records import Json

__all__ = ["RECORDED", "is_offered", "record"]

RECORDED = frozenset({"logging/setLevel", "resources/subscribe", "resources/unsubscribe"})
"""The requests that `record` is for."""

_LONGEST_URI_BYTES = 2_000
"""What an index entry of Postgres holds, with room to spare."""


def is_offered(info: InfoSessionManager, method: str) -> bool:
    """Return whether the manager can do what the request asks for: `resources/unsubscribe` is optional."""
    return method != "resources/unsubscribe" or info.can_remove_subscriptions


async def record(info: InfoSessionManager, id: str, message: Json) -> Json | None:
    """Store what the request changed about the session, before it is answered; or say why that failed."""
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
