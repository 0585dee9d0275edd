"""The application of `test_exits_on_hosts`: code that exits, on whatever host."""

from __future__ import annotations

import asyncio
import sys

from starlette.requests import Request
from starlette.responses import PlainTextResponse

from tests.support.exiting import exiting_server
from tmcp_serverless import create_handler

server = exiting_server()


@server.custom_route("/wait", methods=["GET"])
async def wait(_: Request) -> PlainTextResponse:
    sys.stdout.write("waiting\n")
    sys.stdout.flush()
    await asyncio.sleep(3600)
    return PlainTextResponse("never")


handler = create_handler(server, database_url="")

if __name__ == "__main__":
    from tmcp_serverless.hosts.container import serve

    serve(handler.app, host="127.0.0.1")
