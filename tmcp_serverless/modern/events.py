"""The events of listen streams as JSON-RPC messages: the SDK's own conversion, both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp.shared.subscriptions import event_from_wire, event_to_notification

if TYPE_CHECKING:
    from mcp.shared.subscriptions import ServerEvent

    from tmcp_serverless.sessions import Json

__all__ = ["event_of", "message_of"]


def message_of(event: ServerEvent) -> Json:
    """Return the notification of an event."""
    notification = event_to_notification(event, {}).model_dump(mode="json", by_alias=True, exclude_none=True)
    # The sender to a stream adds the id of that stream.
    params = {name: value for name, value in notification.get("params", {}).items() if name != "_meta"}
    message: Json = {"jsonrpc": "2.0", "method": notification["method"]}
    return {**message, "params": params} if params else message


def event_of(message: Json) -> ServerEvent | None:
    """Return the event of a notification; `None` if listen streams do not hear of it."""
    return event_from_wire(message.get("method", ""), message.get("params"))
