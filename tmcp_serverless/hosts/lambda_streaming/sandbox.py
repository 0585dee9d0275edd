"""The loop of a sandbox: one event loop, one invocation after another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING, Any

from tmcp_serverless.hosts.deadline import DeadlineRunner
from tmcp_serverless.hosts.lambda_streaming.answering import answer
from tmcp_serverless.hosts.lambda_streaming.faults import FAILURES, Fault, is_own_end
from tmcp_serverless.logs import INVOCATION_ID, TENANT_ID

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tmcp_serverless.hosts.lambda_streaming.loading import LambdaHandler
    from tmcp_serverless.hosts.lambda_streaming.runtime_api import RuntimeApi

__all__ = ["Sandbox"]

logger = logging.getLogger(__name__)

_STEP_SECONDS = 0.1
"""Seconds for each of the two steps of a request's end after SIGTERM."""

_CLOSE_SECONDS = 0.2
"""Seconds for closing afterwards: 500 ms after SIGTERM the process is killed."""

_LOST = Fault("Runtime.AnswerLost", "The answer did not arrive")


class Sandbox:
    """Runs a handler for the life of a sandbox."""

    def __init__(self, handler: LambdaHandler, api: RuntimeApi) -> None:
        self._handler = handler
        self._api = api
        self._runner = DeadlineRunner()
        self._stop_requested = asyncio.Event()
        self._answering = False

    async def run(self) -> None:
        """Serve invocations until SIGTERM, then close the handler and the API.

        Raises:
            OSError: The Runtime API is gone, or in no state to go on; the process has to end.
        """
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop_requested.set)
        stopping = asyncio.create_task(self._stop_requested.wait())
        waiting = asyncio.create_task(self._wait_as_extension(await self._register()))
        try:
            while not stopping.done():
                await self._serve_one(stopping)
        finally:
            for task in (waiting, stopping):
                task.cancel()
            await _briefly(self._handler.aclose(), _CLOSE_SECONDS)
            self._api.close()

    async def _register(self) -> str | None:
        """Register as an extension, so that SIGTERM is sent.

        Best effort: without SIGTERM the leases simply expire.
        """
        try:
            return await self._api.register_extension()
        except (OSError, LookupError) as error:
            logger.debug("there will be no SIGTERM: %s", error)
            return None

    async def _wait_as_extension(self, id: str | None) -> None:
        if id is not None:
            with contextlib.suppress(OSError):
                await self._api.wait_as_extension(id)

    async def _serve_one(self, stopping: asyncio.Task[Any]) -> None:
        work = asyncio.create_task(self._answer_next())
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and self._answering:
                await _briefly(self._handler.drain(), _STEP_SECONDS)
                await asyncio.wait({work}, timeout=_STEP_SECONDS)
        finally:
            work.cancel()
            await asyncio.wait({work}, timeout=_STEP_SECONDS)
        if work.done() and not work.cancelled():
            work.result()
        elif not stopping.done():
            # With an open invocation, `next` would bring the same again, until its deadline.
            raise ConnectionAbortedError("an invocation was cancelled from inside, and has no answer")

    async def _answer_next(self) -> None:
        invocation = await self._api.next()
        self._answering = True
        INVOCATION_ID.set(invocation.id)
        TENANT_ID.set(invocation.tenant_id)
        os.environ.pop("_X_AMZN_TRACE_ID", None)
        if invocation.trace_id:
            os.environ["_X_AMZN_TRACE_ID"] = invocation.trace_id
        try:
            await answer(invocation, self._handler, self._api, self._runner)
        except OSError as error:
            # An error of this answer need not be an error of the sandbox: `next` finds that out.
            logger.warning("an answer did not arrive: %s", str(error) or repr(error))
            # Mostly the invocation is over, and this is refused. If it is not, `next` would bring it again.
            with contextlib.suppress(OSError):
                await self._api.fail(invocation.id, _LOST)
        self._answering = False


async def _briefly(ending: Awaitable[None], seconds: float) -> None:
    """Await an ending for a limited time."""
    try:
        async with asyncio.timeout(seconds):
            await ending
    except TimeoutError:
        logger.debug("not everything was closed in time")
    except FAILURES as error:
        if is_own_end(error):
            raise
        logger.exception("closing failed")
