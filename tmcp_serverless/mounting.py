"""Support for an application that is mounted in another one: its answers name addresses under the mount."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tmcp_serverless.http import INVALID_REQUEST, path_of

if TYPE_CHECKING:
    from tmcp_serverless.http import ASGIApp, Message, Receive, Scope, Send

__all__ = ["WELL_KNOWN", "Mounted"]

WELL_KNOWN = "/.well-known/"
"""RFC 8615."""

_METADATA = re.compile(
    rb'(resource_metadata="[^"/]+//[^"/]+)(/\.well-known/oauth-protected-resource)(/[^"]*)'
)


class Mounted:
    """Serves requests that come with a `root_path`: by a mount, or from a proxy that takes a prefix off.

    A 401 names the metadata of the protected resource at the root of the host (RFC 9728, section 3.1). There,
    another application answers. The metadata is served under the mount too, and the 401 names it there,
    unless the other application has it. A 404 at the mount itself names the endpoint's path.

    Args:
        app: The application.
        endpoint: The endpoint's path in it.
        metadata_at_root: True if the outer application serves the metadata at its root.

    """

    def __init__(self, app: ASGIApp, *, endpoint: str, metadata_at_root: bool) -> None:
        self._app = app
        self._endpoint = endpoint
        self._metadata_at_root = metadata_at_root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        root: str = scope["root_path"].rstrip("/")
        if root != scope["root_path"]:
            scope = {**scope, "root_path": root}  # Starlette finds no route otherwise.
        metadata_root: str = scope.get("app_root_path", "").rstrip("/") if self._metadata_at_root else root
        lost = self._endpoint and not path_of(scope)
        replaced = False

        async def mounted(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start":
                if message["status"] == 404 and lost:  # noqa: PLR2004 - HTTP's own
                    replaced = True
                    await _tell(send, f"{root}{self._endpoint}", root)
                    return
                if message["status"] in (401, 403):
                    message = {**message, "headers": _named_below(message["headers"], root, metadata_root)}
            if not replaced:
                await send(message)

        await self._app(scope, receive, mounted)


async def _tell(send: Send, endpoint: str, root: str) -> None:
    text = f"Not Found: the MCP endpoint is at {endpoint}; with path='/' (TMCP_PATH=/) it is at {root} itself"
    error: dict[str, Any] = {"code": INVALID_REQUEST, "message": text}
    body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _named_below(
    headers: list[tuple[bytes, bytes]], root: str, metadata_root: str
) -> list[tuple[bytes, bytes]]:
    mount, prefix = quote(root).encode(), quote(metadata_root).encode()

    def below(found: re.Match[bytes]) -> bytes:
        # A resource that is elsewhere for its clients has its metadata there too.
        is_under_mount = found[3] == mount or found[3].startswith(mount + b"/")
        return found[1] + prefix + found[2] + found[3] if is_under_mount else found[0]

    return [
        (name, _METADATA.sub(below, value)) if name.lower() == b"www-authenticate" else (name, value)
        for name, value in headers
    ]
