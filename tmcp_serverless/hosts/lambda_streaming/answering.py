"""Answering one invocation: an HTTP request with the application, anything else with the user's function."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from tmcp_serverless.hosts.lambda_events import front_door_of
from tmcp_serverless.hosts.lambda_streaming.context import LambdaContext
from tmcp_serverless.hosts.lambda_streaming.faults import FAILURES, Fault, is_own_end
from tmcp_serverless.hosts.lambda_streaming.response import StreamedResponse
from tmcp_serverless.transports.host import HOST_EXTENSION, Host

if TYPE_CHECKING:
    from tmcp_serverless.hosts.lambda_events import FrontDoor
    from tmcp_serverless.hosts.lambda_streaming.loading import LambdaHandler
    from tmcp_serverless.hosts.lambda_streaming.runtime_api import Invocation, RuntimeApi
    from tmcp_serverless.transports.asgi import Scope

__all__ = ["answer"]

logger = logging.getLogger(__name__)

_RESERVE_SECONDS = 0.5
"""How long before its deadline a request is cancelled. What is killed closes nothing, in Postgres either, and
takes the sandbox along."""

_OVER = Fault("Runtime.TimeIsOver", "The request was cancelled shortly before its deadline")
_INCOMPLETE = Fault("Runtime.IncompleteAnswer", "The application returned without ending its answer")


async def answer(invocation: Invocation, handler: LambdaHandler, api: RuntimeApi) -> None:
    """Answer the invocation. When this returns, nothing of it is left running.

    Raises:
        OSError: The answer did not arrive.

    """
    context = LambdaContext(invocation)
    result = b""
    try:
        event = json.loads(invocation.event)
        front_door = front_door_of(event)
        scope = _scope(front_door, invocation, context)
        if scope is None:
            result = json.dumps(await _whole(event, front_door, context, handler)).encode()
    except FAILURES as error:
        if is_own_end(error):
            raise
        logger.exception("an event could not be handled")
        await api.fail(invocation.id, Fault.of(error))
        return
    if front_door is None or scope is None:
        await api.succeed(invocation.id, result)
    else:
        await _stream(invocation, front_door, scope, handler, api)


def _scope(front_door: FrontDoor | None, invocation: Invocation, context: LambdaContext) -> Scope | None:
    """Return the ASGI scope of a request whose answer is streamed; `None` for any other event."""
    if front_door is None or not front_door.streams:
        return None
    return {
        **front_door.scope,
        "extensions": {HOST_EXTENSION: Host(streams=True, deadline=invocation.deadline)},
        "aws.event": front_door.event,
        "aws.context": context,
    }


async def _whole(
    event: Any, front_door: FrontDoor | None, context: LambdaContext, handler: LambdaHandler
) -> Any:
    if front_door is None:
        return await handler.handle_event(event, context)
    from tmcp_serverless.hosts.lambda_buffered import answer_whole  # noqa: PLC0415 - imports Mangum

    return await answer_whole(handler.app, event, context)


async def _stream(
    invocation: Invocation,
    front_door: FrontDoor,
    scope: Scope,
    handler: LambdaHandler,
    api: RuntimeApi,
) -> None:
    response = StreamedResponse(api, invocation.id, front_door)
    limit = asyncio.timeout_at(invocation.deadline - _RESERVE_SECONDS)
    try:
        async with limit:
            await handler.app(scope, response.receive, response.send)
    except FAILURES as error:
        if is_own_end(error):
            raise
        if response.lost:
            raise ConnectionAbortedError(str(error)) from error
        if limit.expired():
            logger.error("%s %s was cancelled: its time is over", scope["method"], scope["path"])  # noqa: TRY400
            await response.fail(_OVER, status=504)
        else:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            await response.fail(Fault.of(error))
    else:
        if response.lost:
            raise ConnectionAbortedError("the application did not mind")
        await response.fail(_INCOMPLETE)
    finally:
        response.abort()
