"""MCP server of the kit's user: its kernel, and its lifespan, which is entered once."""

from __future__ import annotations

import asyncio
import contextvars
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tmcp_serverless.exits import Contained
from tmcp_serverless.sdk.server_kind import server_kind
from tmcp_serverless.tracebacks import bound_log_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tmcp_serverless.http import ASGIApp
    from tmcp_serverless.sdk.kernel import Kernel

__all__ = ["ServerRuntime"]


class ServerRuntime:
    """Server and its lifespan.

    The first request that needs the lifespan, or the ASGI server's start, enters it in a task of its own. It
    must be left in the task that entered it, and no request lives that long.

    Args:
        server: An `MCPServer`, a lowlevel `Server` or a `FastMCP`.
        answer_session_methods: As for `HttpTransport`.
        prepare: Called with the server before its first request, when `mcp` is imported.

    Raises:
        ConfigurationError: `server` is none of these.

    """

    def __init__(
        self,
        server: Any,
        *,
        answer_session_methods: bool = True,
        prepare: Callable[[Any], None] | None = None,
    ) -> None:
        self.server = server
        server_kind(server)  # It is one, or an error says so now.
        self._prepare = prepare
        self._answer_session_methods = answer_session_methods
        self._entered: asyncio.Future[Any] | None = None
        self._leave = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None

    @cached_property
    def kernel(self) -> Kernel:
        """SDK kernel over this server. Imports `mcp`."""
        # A GET, a DELETE and a reply do without mcp.
        from tmcp_serverless.sdk.kernel import Kernel

        if self._prepare is not None:
            self._prepare(self.server)
        return Kernel(self.server, answer_session_methods=self._answer_session_methods)

    def guarded(
        self,
        app: ASGIApp,
        *,
        path: str,
        extra_paths: Collection[str] = (),
        entrance: Callable[[ASGIApp], ASGIApp],
    ) -> ASGIApp:
        """Return the application behind the server's own authentication, and beside its own routes.

        The application is at `path`, and at the paths in `extra_paths`. There `entrance` is in front of both.
        """
        from tmcp_serverless.sdk.guard import guarded  # with the server

        return guarded(self.server, app, path=path, extra_paths=extra_paths, entrance=entrance)

    async def lifespan_state(self) -> Any:
        """Return the value that the server's lifespan yielded. Enter the lifespan first if that is due.

        An exception on entering is raised here, and the next call tries again.
        """
        if self._entered is None:
            self._entered = asyncio.get_running_loop().create_future()
            self._leave = asyncio.Event()
            # Tasks that the lifespan starts run for every client, and not as the user of the first request.
            nobody = contextvars.Context()
            self._owner = asyncio.create_task(self._own(self._entered), context=nobody)
        if self._entered.done():
            return self._entered.result()
        return await asyncio.shield(self._entered)

    async def aclose(self) -> None:
        """Leave the lifespan. The next request would enter it again."""
        if self._owner is not None:
            self._leave.set()
            owner, self._owner, self._entered = self._owner, None, None
            await owner

    async def _own(self, entered: asyncio.Future[Any]) -> None:
        try:
            bound_log_lines()
            # A lifespan that exits has failed, as one that raises.
            with Contained():
                async with self.kernel.lifespan() as state:
                    entered.set_result(state)
                    await self._leave.wait()
        except BaseException as error:
            if entered.done():
                raise
            self._entered = None
            if isinstance(error, asyncio.CancelledError):
                entered.cancel()
                raise
            entered.set_exception(error)
