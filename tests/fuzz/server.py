"""What the instances serve: tools that ask, report, log, tell others and fail, for two principals.

Whatever a principal is answered has the principal's marker in it. The markers and the tokens come from the
variable `FUZZ_PRINCIPALS`.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING

from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context
from mcp_types import CreateMessageRequestParams, SamplingMessage, TextContent
from pydantic import AnyHttpUrl, BaseModel
from starlette.responses import JSONResponse, Response

from tmcp_serverless import create_handler, replayable

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["Tokens", "app", "handler", "marker", "server"]

_PRINCIPALS: dict[str, dict[str, str]] = json.loads(os.environ["FUZZ_PRINCIPALS"])
_LONGEST_SECONDS = 0.4
_ANSWER_SECONDS = 3.0
_MOST_BYTES = 300_000


class Tokens:
    """The principals by their tokens."""

    async def verify_token(self, token: str) -> AccessToken | None:
        found = _PRINCIPALS.get(token)
        if found is None:
            return None
        name = found["name"]
        return AccessToken(token=token, client_id=name, subject=name, scopes=[])


class Word(BaseModel):
    word: str


_auth = AuthSettings(issuer_url=AnyHttpUrl("https://issuer.invalid"), resource_server_url=None)
server = MCPServer("fuzz", log_level="DEBUG", auth=_auth, token_verifier=Tokens())


def marker() -> str:
    """Return the caller's marker."""
    token = get_access_token()
    return _PRINCIPALS[token.token]["marker"] if token is not None else "nobody"


@server.tool()
async def echo(text: str) -> str:
    return f"{marker()}:{text}"


@server.tool()
async def large(bytes: int) -> str:
    return marker() + "x" * max(0, min(bytes, _MOST_BYTES))


@server.tool()
async def slow(seconds: float = 0.1) -> str:
    await asyncio.sleep(min(max(seconds, 0), _LONGEST_SECONDS))
    return f"{marker()}:slept"


@server.tool()
async def progress(ctx: Context, n: int = 3) -> str:
    for step in range(max(0, min(n, 20))):
        await ctx.report_progress(step, n, f"{marker()} {step}")
    return f"{marker()}:progressed"


@server.tool()
@replayable
async def ask(ctx: Context, text: str = "") -> str:
    answer = await asyncio.wait_for(ctx.elicit(f"{marker()}:{text}", Word), _ANSWER_SECONDS)
    return f"{marker()}:{answer}"


@server.tool()
async def sample(ctx: Context) -> str:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=marker()))
    params = CreateMessageRequestParams(messages=[message], max_tokens=10)
    answer = await asyncio.wait_for(
        ctx.session.create_message(params.messages, max_tokens=params.max_tokens),  # pyright: ignore[reportDeprecated]
        _ANSWER_SECONDS,
    )
    return f"{marker()}:{answer}"


@server.tool()
async def log(ctx: Context, text: str = "") -> str:
    await ctx.info(f"{marker()}:{text}")  # pyright: ignore[reportDeprecated]
    return f"{marker()}:logged"


@server.tool()
async def announce(ctx: Context) -> str:
    """Log to the session's standalone stream."""
    await ctx.session.send_log_message("error", marker())  # pyright: ignore[reportDeprecated]
    return f"{marker()}:announced"


@server.tool()
async def tell(uri: str = "fuzz://own") -> str:
    """Tell everybody that a resource has changed."""
    await handler.notifier.resource_updated(uri[:200])
    return f"{marker()}:told"


@server.tool()
async def fail(text: str = "") -> str:
    raise ValueError(f"{marker()}:{text}")


@server.tool()
async def leave() -> str:
    raise SystemExit(marker())


@server.resource("fuzz://own")
async def own() -> str:
    return f"{marker()}:resource"


@server.resource("fuzz://item/{name}")
async def item(name: str) -> str:
    if name == "absent":
        raise KeyError(name)
    return f"{marker()}:{name}"


@server.prompt()
async def prompt(text: str = "") -> str:
    return f"{marker()}:{text}"


@server.custom_route("/custom/{name}", methods=["GET", "POST"])
async def custom(request: Request) -> Response:
    return JSONResponse({"name": request.path_params["name"][:100], "marker": marker()})


handler = create_handler(server)
app = handler.app
