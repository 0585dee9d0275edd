"""Runner of a session that is one stream: a request's messages and its answer go there.

Imports `mcp`, as `runner` does.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from tmcp_serverless.transports.asgi import INTERNAL_ERROR
from tmcp_serverless.transports.host import host_of
from tmcp_serverless.transports.jsonrpc import dump, error_answer
from tmcp_serverless.transports.refusals import STOPPED
from tmcp_serverless.transports.runner import MessageRunner
from tmcp_serverless.transports.stream_exchange import StreamExchange

if TYPE_CHECKING:
    from tmcp_serverless.sessions.records import Json
    from tmcp_serverless.transports.asgi import Scope
    from tmcp_serverless.transports.session import LoadedSession

__all__ = ["LegacyRunner"]

logger = logging.getLogger(__name__)

_OUT_OF_TIME = "The request took longer than its instance lives"


class LegacyRunner(MessageRunner):
    """Runner of requests and notifications of HTTP+SSE sessions."""

    async def answer_on_stream(self, scope: Scope, session: LoadedSession, message: Json) -> None:
        """Run a request of a session that is one stream. Its messages and its answer go there.

        There is always an answer: only this invocation could give one, and the client waits for it.
        """
        exchange = StreamExchange(self._managers.streams, session.id)
        try:
            answer = await self._run_in_time(scope, session, message, exchange)
        except asyncio.CancelledError:
            # The host is stopping.
            await asyncio.shield(exchange.answer(dump(error_answer(message, INTERNAL_ERROR, STOPPED))))
            raise
        except TimeoutError:
            answer = dump(error_answer(message, INTERNAL_ERROR, _OUT_OF_TIME))
        except Exception:
            logger.exception("%r could not be run", message["method"])
            answer = dump(error_answer(message, INTERNAL_ERROR, "The server could not run the request"))
        await exchange.answer(answer)

    async def _run_in_time(
        self, scope: Scope, session: LoadedSession, message: Json, exchange: StreamExchange
    ) -> bytes:
        """Run the request, or `initialize`, unless the invocation would be ended by force before."""
        host = host_of(scope)
        if message["method"] == "initialize":
            return await self._initialize_stream(scope, session, message)
        conversation = self._conversation(session, message["id"], can_ask=host.streams)
        left = host.seconds_left(at_most=math.inf)
        async with (
            asyncio.timeout(None if math.isinf(left) else left),
            self._attendance(host, session, None, [conversation]),
        ):
            return await self._run(scope, session, message, exchange, conversation)

    async def _initialize_stream(self, scope: Scope, session: LoadedSession, message: Json) -> bytes:
        """Run `initialize`. The session that it settles is durable before the answer."""
        answer, settled = await self.initialize(
            scope, session.id, message, session.record.principal, pushes=True
        )
        if settled is not None:
            # A session that has ended meanwhile stays ended, and no client reads the answer.
            await self._managers.info.initialize(session.id, settled, only_if_exists=True)
        return dump(answer)
