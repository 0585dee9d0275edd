"""Plain questions in the modern era: a tool is run again with the answers so far, until it finishes.

(2026-07-28, basic/patterns/mrtr: the server answers `input_required`, and the client asks again with answers)

A run ends at the first question that has no answer yet; the tool is cancelled there. The questions so far, as
digests, and their answers travel with the client in `requestState`, sealed by the boundary around us. So any
instance can go on, and nothing is kept in between.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mcp.server.session import ServerSession
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp_types import (
    INVALID_REQUEST,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    SERVER_INFO_META_KEY,
    ElicitRequest,
    ElicitRequestURLParams,
    InputRequiredResult,
    ListRootsRequest,
)
from mcp_types.version import LATEST_HANDSHAKE_VERSION
from pydantic import BaseModel, ValidationError

from tmcp_serverless.marks import is_marked_replayable
from tmcp_serverless.modern.unasked import Unasked
from tmcp_serverless.sdk import private
from tmcp_serverless.sdk.server_kind import ServerKind, server_kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import mcp_types
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp.server.lowlevel.server import Server

    from tmcp_serverless.modern.request_state import SharedRequestState

__all__ = ["Replay"]

logger = logging.getLogger(__name__)

_OTHERS_SECONDS = 0.02
"""Grace after the first unanswered question, so that questions asked concurrently go out in the same
round."""


class Replay:
    """Middleware, the innermost, that runs replayable tools again until they have all their answers.

    Args:
        server: The server, with marks on its replayable tools.
        lowlevel: The lowlevel server inside, or the server itself.
        names: Tools that are replayable though their functions are not marked.
        boundary: The boundary that seals the states; `None` if an earlier one does.

    """

    def __init__(
        self,
        server: Any,
        lowlevel: Server[Any],
        names: Iterable[str],
        *,
        boundary: SharedRequestState | None,
    ) -> None:
        self._server = server
        self._lowlevel = lowlevel
        self._names = frozenset(names)
        self._boundary = boundary
        self._kind: ServerKind = server_kind(server)
        # A FastMCP refuses to ask a modern client before it has tried to.
        self._hides_version = self._kind == "FastMCP"
        self._unasked = Unasked()

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Run the request; a replayable tool with the answers that came with it."""
        if ctx.method != "tools/call":
            return await call_next(ctx)
        name = str((ctx.params or {}).get("name"))
        if not await self._is_replayable(name):
            return await self._unasked.run(ctx, call_next, tool=name)
        replayed = partial(self._replayed, call_next)
        return await (replayed(ctx) if self._boundary is None else self._boundary(ctx, replayed))

    async def _replayed(self, call_next: CallNext, ctx: ServerRequestContext[Any, Any]) -> HandlerResult:
        params = dict(ctx.params or {})
        script = _Script.resumed(params.pop("requestState", None), params.pop("inputResponses", None))
        session = _ReplaySession(ctx.session, script)
        inner = replace(ctx, session=session, params=params)
        if self._hides_version:
            inner = replace(inner, protocol_version=LATEST_HANDSHAKE_VERSION)
        result = await _run(inner, call_next, script)
        if isinstance(result, InputRequiredResult):
            result.meta = {SERVER_INFO_META_KEY: self._lowlevel.server_info_stamp}
        return result

    async def _is_replayable(self, name: str) -> bool:
        if name in self._names:
            return True
        match self._kind:
            case "MCPServer":
                return is_marked_replayable(private.tool_function(self._server, name))
            case "FastMCP":
                return await _is_marked_in_fastmcp(self._server, name)
            case "lowlevel":
                return False


async def _is_marked_in_fastmcp(server: Any, name: str) -> bool:
    try:
        return await _is_marked_in_the_end(server, name)
    except Exception as error:  # noqa: BLE001 - whoever runs the tool says what is wrong with it
        logger.debug("cannot tell whether %r is replayable: %r", name, error)
        return False


async def _is_marked_in_the_end(server: Any, name: str) -> bool:
    """Return true if the function that finally runs is marked: a tool may stand for another one."""
    tool = await server.get_tool(name)
    while tool is not None and not is_marked_replayable(getattr(tool, "fn", None)):
        tool = await private.tool_behind(tool)
    return tool is not None


async def _run(ctx: ServerRequestContext[Any, Any], call_next: CallNext, script: _Script) -> HandlerResult:
    running = asyncio.ensure_future(call_next(ctx))
    stopped = asyncio.ensure_future(script.stopped.wait())
    try:
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done() and script.failure is None:
            await asyncio.wait({running}, timeout=_OTHERS_SECONDS)
        if script.failure is not None:
            raise script.failure
        if running.done():
            return running.result()
        return script.input_required()
    finally:
        stopped.cancel()
        running.cancel()
        await asyncio.gather(running, stopped, return_exceptions=True)


@dataclass(slots=True)
class _Question:
    """A question that the tool has asked, in this run or an earlier one."""

    digest: str
    answer: Any = None


class _Script:
    """The questions of a tool in the order in which it asks them, and the answers so far."""

    def __init__(self, questions: list[_Question]) -> None:
        self.stopped = asyncio.Event()
        """Set when the run cannot go on: a question has no answer, or is another one than before."""

        self.failure: MCPError | None = None
        self._questions = questions
        self._next = 0
        self._pending: dict[str, mcp_types.InputRequest] = {}

    @classmethod
    def resumed(cls, state: Any, responses: Any) -> _Script:
        """Return the script that the client brings back, with its answers."""
        # The boundary has opened the state: it is one that `input_required` has written.
        questions = [_Question(*entry) for entry in json.loads(state)] if state is not None else []
        if isinstance(responses, dict):
            for number, question in enumerate(questions):
                if question.answer is None:
                    question.answer = responses.get(_key(number))
        return cls(questions)

    async def ask(self, request: mcp_types.InputRequest, result_type: type[BaseModel]) -> BaseModel:
        """Return the client's answer; if there is none, the run ends here."""
        number, self._next = self._next, self._next + 1
        digest = _digest(request)
        if number == len(self._questions):
            self._questions.append(_Question(digest))
        question = self._questions[number]
        if question.digest != digest:
            text = f"question {number + 1} of this tool is not the one that it asked before: "
            self._fail(text + "a replayable tool asks the same questions in the same order every time")
        elif question.answer is not None:
            try:
                return result_type.model_validate(question.answer, by_name=False)
            except ValidationError:
                question.answer = None  # It is no answer to such a question: ask again.
        self._pending[_key(number)] = request
        self.stopped.set()
        return await asyncio.get_running_loop().create_future()  # The run is cancelled here.

    def input_required(self) -> InputRequiredResult:
        """Return the result that asks the client for the missing answers."""
        state = json.dumps([[question.digest, question.answer] for question in self._questions])
        return InputRequiredResult(input_requests=self._pending, request_state=state)

    def _fail(self, text: str) -> None:
        self.failure = MCPError(code=INVALID_REQUEST, message=text)
        self.stopped.set()


class _ReplaySession(ServerSession):
    """A request's session that answers questions from the script."""

    def __init__(self, session: ServerSession, script: _Script) -> None:
        private.take_over_session(self, session)
        self._script = script

    @property
    def can_send_request(self) -> bool:
        """True: the client can be asked by way of the result."""
        return True

    async def send_request(self, request: Any, result_type: Any, *_: Any, **__: Any) -> Any:
        """Return the client's answer to the question."""
        needed = _needed_capability(request)
        if needed is None:
            raise NoBackChannelError(request.method)
        capabilities = self.client_capabilities
        declared = {} if capabilities is None else capabilities.model_dump(by_alias=True, exclude_none=True)
        if not _declares(declared, needed):
            raise MCPError(
                code=MISSING_REQUIRED_CLIENT_CAPABILITY,
                message=f"Client did not declare the {next(iter(needed))} capability",
                data={"requiredCapabilities": needed},
            )
        return await self._script.ask(request, result_type)


def _needed_capability(request: Any) -> dict[str, Any] | None:
    if isinstance(request, ElicitRequest):
        return {"elicitation": {"url": {}} if isinstance(request.params, ElicitRequestURLParams) else {}}
    if isinstance(request, ListRootsRequest):
        return {"roots": {}}
    return {"sampling": {}} if request.method == "sampling/createMessage" else None


def _declares(declared: Mapping[str, Any], needed: Mapping[str, Any]) -> bool:
    ((name, modes),) = needed.items()
    if name not in declared:
        return False
    # A client that names no mode of elicitation can do forms.
    return "url" in declared[name] if modes else name != "elicitation" or declared[name].keys() != {"url"}


def _key(number: int) -> str:
    return f"question-{number + 1}"


def _digest(request: mcp_types.InputRequest) -> str:
    rendered = request.model_dump(mode="json", by_alias=True, exclude_none=True)
    return hashlib.sha256(json.dumps(rendered, sort_keys=True).encode()).hexdigest()[:32]
