"""A FastMCP behind its OAuth proxy, with the proxy's state in Postgres: any instance continues a sign-in.

`python -m tests.browser.guarded_server` runs it in the container host.
"""

from __future__ import annotations

import os
from typing import Any

from fastmcp import FastMCP
from fastmcp.server.auth import OAuthProxy
from fastmcp.server.auth.providers.jwt import JWTVerifier
from fastmcp.server.dependencies import get_access_token
from key_value.aio.stores.postgresql import PostgreSQLStore

from tmcp_serverless import create_handler
from tmcp_serverless.hosts.container import serve

PROVIDER = os.environ["PROVIDER_URL"]

auth = OAuthProxy(
    upstream_authorization_endpoint=f"{PROVIDER}/authorize",
    upstream_token_endpoint=f"{PROVIDER}/token",
    upstream_client_id="the-proxy",
    upstream_client_secret="s" * 32,
    token_verifier=JWTVerifier(
        public_key=os.environ["PROVIDER_KEY"], issuer=PROVIDER, audience="the-proxy", required_scopes=["use"]
    ),
    base_url=os.environ["PUBLIC_URL"],
    jwt_signing_key=b"k" * 32,
    client_storage=PostgreSQLStore(url=os.environ["TMCP_DATABASE_URL"], table_name="oauth"),
)
server: FastMCP[Any] = FastMCP("guarded", auth=auth)


@server.tool
async def whoami() -> str:
    token = get_access_token()
    assert token is not None
    return str(token.claims["sub"])


handler = create_handler(server)

if __name__ == "__main__":
    serve(handler.app, host="127.0.0.1")
