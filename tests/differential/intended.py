"""What ours answers where it differs on purpose: functions of what the SDK's client saw."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .interactions import Difference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .wire import Seen

    Change = Callable[[Any], Any]

__all__ = [
    "ADVERTISED",
    "advertised",
    "as_json_rpc",
    "at_least",
    "done",
    "everywhere",
    "instead",
    "message_first",
    "message_last",
    "negotiated",
    "refused",
    "with_options",
    "worded",
]

ALLOWED = ["DELETE", "GET", "OPTIONS", "POST"]
LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")


def everywhere(id: str, steps: Iterable[str], ours: Change) -> list[Difference]:
    """Return the same difference at several steps."""
    return [Difference(id, step, ours) for step in steps]


def instead(value: Any) -> Change:
    """Ours sees something else altogether."""
    return lambda _: value


def refused(status: int, message: str, *, code: int = -32600, **more: Any) -> Seen:
    """Return what a request is seen to be refused with by HTTP."""
    error = {"code": code, "message": message}
    return {"status": status, "messages": [{"jsonrpc": "2.0", "id": None, "error": error}], **more}


def done(id: int) -> Change:
    """Ours answers with an empty result."""
    return instead({"status": 200, "messages": [{"jsonrpc": "2.0", "id": id, "result": {}}]})


def worded(message: str) -> Change:
    """Ours says the same error in other words."""

    def change(seen: Seen) -> Seen:
        (answer,) = seen["messages"]
        return {**seen, "messages": [{**answer, "error": {**answer["error"], "message": message}}]}

    return change


def as_json_rpc(seen: Seen) -> Seen:
    """Ours says in a JSON-RPC error what the SDK says in plain text."""
    return refused(seen["status"], seen["text"])


def with_options(seen: Seen) -> Seen:
    """Ours names OPTIONS among the methods that are allowed."""
    return {**seen, "allow": ALLOWED}


def advertised(seen: Seen) -> Seen:
    """Ours advertises what it does for every server: log levels, subscriptions, list changes."""
    (answer,) = seen["messages"]
    capabilities = {**answer["result"]["capabilities"], "logging": {}}
    for feature in ("prompts", "resources", "tools"):
        capabilities[feature] = {**capabilities[feature], "listChanged": True}
    capabilities["resources"]["subscribe"] = True
    return {**seen, "messages": [{**answer, "result": {**answer["result"], "capabilities": capabilities}}]}


ADVERTISED = Difference("D2", "initialize", advertised)


def at_least(level: str) -> Change:
    """Ours keeps back the log messages below the level that the client has set."""
    unwanted = LEVELS[: LEVELS.index(level)]

    def change(seen: Seen) -> Seen:
        return {
            **seen,
            "messages": [
                each for each in seen["messages"] if each.get("params", {}).get("level") not in unwanted
            ],
        }

    return change


def message_first(message: dict[str, Any]) -> Change:
    """Ours delivers a message that the SDK had nobody to deliver to."""
    return lambda seen: {**seen, "messages": [message, *seen["messages"]]}


def message_last(message: dict[str, Any]) -> Change:
    """Ours ends a response with a message where the SDK just ends it."""
    return lambda seen: {**seen, "messages": [*seen["messages"], message]}


def negotiated(seen: Seen) -> Seen:
    """Ours keeps the version that was agreed upon, and the SDK the one that the client asked for."""
    return json.loads(json.dumps(seen).replace("1999-12-31", "2025-11-25"))


def without_meta(seen: Seen) -> Seen:
    """Ours does not keep the `_meta` of `initialize`."""
    return json.loads(json.dumps(seen).replace(r"{\"_meta\":{\"progressToken\":1},", "{"))
