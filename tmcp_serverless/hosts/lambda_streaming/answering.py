"""Answers to one invocation: the application answers HTTP requests, the user's function any other event."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from tmcp_serverless.hosts.deadline import ANSWER_SECONDS, TimeIsOverError
from tmcp_serverless.hosts.lambda_events import front_door_of
from tmcp_serverless.hosts.lambda_streaming.context import LambdaContext
from tmcp_serverless.hosts.lambda_streaming.faults import FAILURES, Fault, is_own_end, words_of
from tmcp_serverless.hosts.lambda_streaming.marshalling import marshal, unmarshal
from tmcp_serverless.hosts.lambda_streaming.response import StreamedResponse
from tmcp_serverless.log_lines import loggable_path
from tmcp_serverless.transports.platform import PLATFORM_EXTENSION, Platform

if TYPE_CHECKING:
    from tmcp_serverless.hosts.deadline import DeadlineRunner
    from tmcp_serverless.hosts.lambda_events import FrontDoor
    from tmcp_serverless.hosts.lambda_streaming.loading import LambdaHandler
    from tmcp_serverless.hosts.lambda_streaming.runtime_api import Invocation, RuntimeApi
    from tmcp_serverless.transports.asgi import Scope

__all__ = ["answer"]

logger = logging.getLogger(__name__)

_OVER = Fault("Runtime.TimeIsOver", "The request was cancelled shortly before its deadline")
_INCOMPLETE = Fault("Runtime.IncompleteAnswer", "The application returned without ending its answer")


async def answer(
    invocation: Invocation, handler: LambdaHandler, api: RuntimeApi, runner: DeadlineRunner
) -> None:
    """Answer the invocation. Its request has ended then, or the runner has logged it and left it behind.

    Raises:
        OSError: The answer did not arrive.
    """
    result, content_type = b"", "application/json"
    try:
        context = LambdaContext(invocation)
        event = unmarshal(invocation.event)
        front_door = front_door_of(event)
        scope = _scope(front_door, invocation, context)
        if scope is None:
            result, content_type = marshal(await _whole(event, front_door, context, handler, runner))
    except FAILURES as error:
        if is_own_end(error):
            raise
        logger.exception("an event could not be handled")
        await api.fail(invocation.id, Fault.of(error))
        return
    if front_door is None or scope is None:
        await api.succeed(invocation.id, result, content_type)
    else:
        response = StreamedResponse(api, invocation.id, front_door)
        await _stream(invocation, scope, handler, response, runner)


def _scope(front_door: FrontDoor | None, invocation: Invocation, context: LambdaContext) -> Scope | None:
    """Return the ASGI scope of a request if its answer is streamed; `None` for any other event."""
    if front_door is None or not front_door.streams:
        return None
    return {
        **front_door.scope,
        "extensions": {PLATFORM_EXTENSION: Platform(streams=True, deadline=invocation.deadline)},
        "aws.event": front_door.event,
        "aws.context": context,
    }


async def _whole(
    event: Any,
    front_door: FrontDoor | None,
    context: LambdaContext,
    handler: LambdaHandler,
    runner: DeadlineRunner,
) -> Any:
    if front_door is None:
        return await handler.handle_event(event, context)
    from tmcp_serverless.hosts.lambda_buffered import answer_whole  # noqa: PLC0415 - imports Mangum

    return await answer_whole(handler.app, event, context, runner)


async def _stream(
    invocation: Invocation,
    scope: Scope,
    handler: LambdaHandler,
    response: StreamedResponse,
    runner: DeadlineRunner,
) -> None:
    name = f"{scope['method']} {loggable_path(scope)}"
    # A client that does not read can block anything that is sent, the end of the answer included.
    cut = asyncio.get_running_loop().call_at(invocation.deadline - ANSWER_SECONDS, response.abort)
    try:
        request = handler.app(scope, response.receive, response.send)
        await runner.run(request, deadline=invocation.deadline, name=name)
    except FAILURES as error:
        if is_own_end(error):
            raise
        if response.lost:
            raise ConnectionAbortedError(words_of(error)) from error
        if isinstance(error, TimeIsOverError):
            logger.error("%s", error)  # noqa: TRY400 - where it was cancelled says nothing
            await response.fail(_OVER, status=504)
        else:
            logger.exception("%s failed", name)
            await response.fail(Fault.of(error))
    else:
        if response.lost:
            raise ConnectionAbortedError(
                "the Runtime API closed the answer before the application finished it"
            )
        await response.fail(_INCOMPLETE)
    finally:
        cut.cancel()
        response.abort()
