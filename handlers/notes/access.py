"""Access to the notes by `NOTES_TOKENS`: names and bearer tokens, such as `ann:9f8e...,bob:7d6c...`.

Enough for a team that configures a header in its clients. For OAuth, give the server a `token_verifier` that
asks your identity provider; the rest stays as it is.
"""

from __future__ import annotations

import hmac
import logging
import os
from typing import Any

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl

__all__ = ["TokenList", "access", "author"]

logger = logging.getLogger(__name__)

_OPEN = "open"
_SHORTEST = 16


def access() -> dict[str, Any]:
    """Return the arguments of `MCPServer` that guard it, from `NOTES_TOKENS`; none if it is `open`."""
    listed = os.environ.get("NOTES_TOKENS", "")
    if listed in ("", _OPEN):
        if not listed:
            logger.warning("NOTES_TOKENS is not set: everybody may read and write the notes")
        return {}
    # There is no issuer to ask. The settings require one, and no client is told of it.
    auth = AuthSettings(issuer_url=AnyHttpUrl("https://issuer.invalid"), resource_server_url=None)
    return {"auth": auth, "token_verifier": TokenList(listed)}


def author() -> str:
    """Return the name of the current request's caller."""
    token = get_access_token()
    return token.client_id if token is not None else "somebody"


class TokenList:
    """Token verifier with a fixed list of tokens.

    Args:
        listed: `NAME:TOKEN` pairs, separated by commas.

    Raises:
        ValueError: A pair is none, or a token is shorter than 16 characters.
    """

    def __init__(self, listed: str) -> None:
        self._names: dict[bytes, str] = {}
        for pair in listed.split(","):
            name, _, token = pair.strip().partition(":")
            if not name or len(token) < _SHORTEST:
                raise ValueError(
                    "NOTES_TOKENS is NAME:TOKEN, separated by commas, with tokens of 16 characters or more "
                    "(python3 -c 'import secrets; print(secrets.token_urlsafe())' makes one), or `open`"
                )
            self._names[token.encode()] = name

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the access token with its owner's name; `None` if it is not in the list."""
        found = None
        for known, name in self._names.items():
            if hmac.compare_digest(known, token.encode()):  # takes as long for a wrong one
                found = AccessToken(token=token, client_id=name, subject=name, scopes=[])
        return found
