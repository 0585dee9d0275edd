"""Two users, for servers that ask who is there."""

from __future__ import annotations

from typing import Any

from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl

__all__ = ["two_users"]


class Tokens:
    """Two users, each with a token of the same name."""

    async def verify_token(self, token: str) -> AccessToken | None:
        if token not in ("alice", "bob"):
            return None
        claims = {"iss": "https://issuer.example", "sub": token}
        return AccessToken(token=token, client_id="app", scopes=["use"], claims=claims, subject=token)


def two_users() -> dict[str, Any]:
    """Return what an `MCPServer` is given so that `alice` and `bob` may use it, and nobody else."""
    auth = AuthSettings(
        issuer_url=AnyHttpUrl("https://issuer.example"),
        resource_server_url=AnyHttpUrl("https://mcp.example/mcp"),
        required_scopes=["use"],
        validate_token_resource=False,
    )
    return {"token_verifier": Tokens(), "auth": auth}
