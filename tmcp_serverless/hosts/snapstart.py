"""SnapStart: a Lambda function's sandboxes begin with a snapshot of a sandbox that was initialized before.

For handlers on AWS's own runtime with whole answers: that runtime calls the hooks. Two things must not be in
a snapshot. Future random numbers may not be the same in all of its copies, and connections do not survive the
time in between. (docs.aws.amazon.com/lambda: "Lambda SnapStart runtime hooks for Python")
"""

from __future__ import annotations

import json
import logging
import random
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tmcp_serverless.handshake.streamable_http import HttpTransport
from tmcp_serverless.hosts.event_loop import run_until_complete, sandbox_loop
from tmcp_serverless.sessions import (
    InMemoryInfoSessionManager,
    InMemoryStreamSessionManager,
    SessionManagers,
)

if TYPE_CHECKING:
    from tmcp_serverless.handler import Handler
    from tmcp_serverless.http import Message
    from tmcp_serverless.sdk.runtime import ServerRuntime

__all__ = ["after_restore", "before_snapshot", "register", "rehearse"]

logger = logging.getLogger(__name__)

_PATH = "/"
_REVISION = "2025-11-25"
_LISTS = ("tools/list", "resources/list", "resources/templates/list", "prompts/list")


def register(handler: Handler) -> bool:
    """Prime the handler before a snapshot; reseed `random` after each restore.

    Returns `True` if the runtime has such hooks; elsewhere nothing happens. Call it at the end of the module
    that Lambda imports. Hooks run in the opposite order before a snapshot, so this one comes first, and a
    hook of yours may then close its leftovers.
    """
    try:
        import snapshot_restore_py as hooks  # a part of AWS's runtime
    except ImportError:
        return False
    hooks.register_before_snapshot(before_snapshot, handler)
    hooks.register_after_restore(after_restore)
    return True


def before_snapshot(handler: Handler) -> None:
    """Import and build everything that the first request would have to wait for, and leave nothing open.

    Priming fails if the server's lifespan needs resources that are not there at a deployment. The version is
    published all the same: its first request waits a little longer.
    """
    try:
        import_module("tmcp_serverless.hosts.lambda_buffered")
        run_until_complete(sandbox_loop(), handler.prime())
    except Exception:
        logger.exception("the server could not be primed; its first request will do what was left")


def after_restore() -> None:
    """Seed `random` anew, so that each copy has random numbers of its own.

    `secrets`, `uuid4` and TLS ask the kernel, and AWS takes care of the kernel's numbers. The module `random`
    has a state that is in the snapshot. Logins and tokens are fetched for a connection, and none was made.
    """
    random.seed()


async def rehearse(runtime: ServerRuntime) -> None:
    """Serve a simulated client in memory: it initializes, and lists tools, resources and prompts.

    So everything is imported, and every schema is built. The server's lifespan is entered, if it is not yet.
    Its authentication is not used, no store is touched, and no tool is called.
    """
    managers = SessionManagers(streams=InMemoryStreamSessionManager(), info=InMemoryInfoSessionManager())
    client = _Client(HttpTransport(runtime, session_manager=managers, path=_PATH))
    about = {
        "protocolVersion": _REVISION,
        "capabilities": {},
        "clientInfo": {"name": "nobody", "version": "0"},
    }
    await client.send("initialize", about)
    await client.send("notifications/initialized", id=None)
    for method in _LISTS:
        await client.send(method, {})
    await managers.aclose()


class _Client:
    """A client that sends its messages, and ignores the answers except for the session's id."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport
        self._session = b""

    async def send(self, method: str, params: dict[str, Any] | None = None, *, id: int | None = 1) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        body = json.dumps(message if id is None else {**message, "id": id}).encode()
        headers = [
            (b"accept", b"application/json, text/event-stream"),
            (b"content-type", b"application/json"),
        ]
        if self._session:
            headers += [(b"mcp-session-id", self._session), (b"mcp-protocol-version", _REVISION.encode())]

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        scope = {
            "type": "http",
            "method": "POST",
            "path": _PATH,
            "root_path": "",
            "query_string": b"",
            "headers": headers,
        }
        await self._transport(scope, receive, self._take)

    async def _take(self, message: Message) -> None:
        self._session = dict(message.get("headers", ())).get(b"mcp-session-id", self._session)
