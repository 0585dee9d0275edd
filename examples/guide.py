"""Drives an MCP server with the official client, step by step, and writes down who served each step.

A `Traveller` is the official client with a note of everything that reaches it. A `Guide` takes the steps,
each under a time limit. Responses name the instance that made them in the `x-tmcp-instance` header.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

__all__ = ["Guide", "Request", "Step", "TourError", "TourReport", "Traveller", "expect"]

INSTANCE_HEADER = "x-tmcp-instance"
_FEW = 3


class TourError(Exception):
    """A step went wrong. The message names the step, what it expected and what it got instead."""


class _UnexpectedError(Exception):
    """What a step got was not what it expected."""


def expect(condition: object, got: object) -> None:
    """Fail the running step unless the condition holds, and say what was there instead."""
    if not condition:
        raise _UnexpectedError(f"{got!r}")


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request that a client made, and the instance that answered it."""

    by: str
    what: str
    """The HTTP method, or for a POST the JSON-RPC method, or `answer` for an answer to the server."""
    status: int
    instance: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the transcript."""

    number: int
    title: str
    outcome: str
    requests: tuple[Request, ...]

    def __str__(self) -> str:
        return f"{self.number:2}. {self.title:<22} {_named(_instances(self.requests)):<18} {self.outcome}"


@dataclass(slots=True)
class TourReport:
    """What happened, step by step."""

    steps: list[Step] = field(default_factory=list[Step])
    delivered: int = 0
    """How many notifications the clients waited for, and got."""

    @property
    def requests(self) -> list[Request]:
        """Every HTTP request, in the order in which its response began."""
        return [request for step in self.steps for request in step.requests]

    @property
    def instances(self) -> list[str]:
        """The instances that served the tour, sorted."""
        return sorted(_instances(self.requests))

    def __str__(self) -> str:
        return (
            f"{len(self.steps)} steps, {len(self.requests)} requests, served by {_named(self.instances)}; "
            f"{self.delivered} notifications awaited, nothing lost."
        )


def _named(instances: Sequence[str]) -> str:
    """Name the instances where they are few, as in a cluster; where each request has its own, count them."""
    match len(instances):
        case 0:
            return "instances without names"
        case 1:
            return f"instance {instances[0]}"
        case number if number <= _FEW:
            return f"instances {', '.join(instances)}"
        case number:
            return f"{number} instances"


def _instances(requests: Sequence[Request]) -> list[str]:
    """Return the instances' names, each once, in the order of their first response."""
    return list(dict.fromkeys(request.instance for request in requests if request.instance is not None))


class Traveller:
    """The official client, with a note of everything that reaches it."""

    def __init__(self, guide: "Guide", name: str, *, elicitation: types.ElicitResult | None = None) -> None:
        self.name = name
        self.session_id = ""
        self.logs: list[tuple[str, Any]] = []
        self.progress: list[tuple[float, float | None]] = []
        self.updates: list[str] = []
        self.tools_changed = 0
        self.questions: list[str] = []
        self._guide = guide
        self._answer = elicitation
        self._news = asyncio.Event()
        self._arrived = asyncio.Event()
        self._leaving = asyncio.Event()

    async def _stay(self) -> None:
        """Open the session, keep it until `leave` is called, and end it with a DELETE.

        This has a task of its own: what the client's own tasks raise comes out here, and nowhere else.
        """
        timeout = httpx2.Timeout(30, read=300)
        async with (
            httpx2.AsyncClient(timeout=timeout, event_hooks={"response": [self._note]}) as http,
            Client(
                streamable_http_client(self._guide.url, http_client=http),
                mode="legacy",
                logging_callback=self._on_log,
                message_handler=self._on_message,
                elicitation_callback=self._on_question if self._answer is not None else None,
                client_info=types.Implementation(name=self.name, version="1.0.0"),
            ) as self.client,
        ):
            self._arrived.set()
            await self._leaving.wait()

    async def arrive(self) -> None:
        """Return when the session is open."""
        self._task = asyncio.create_task(self._stay(), name=self.name)
        self._task.add_done_callback(self._guide.on_departure)
        await self._arrived.wait()

    async def leave(self) -> None:
        """End the session, and return when it has been ended. Idempotent."""
        self._leaving.set()
        await asyncio.wait({self._task})

    async def vanish(self) -> None:
        """End the client, whatever it is doing."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def tool(self, name: str, **arguments: Any) -> types.CallToolResult:
        """Call a tool that must succeed, with a note of its progress."""
        result = await self.client.call_tool(name, arguments, progress_callback=self._on_progress)
        expect(not result.is_error, result.content)
        return result

    async def call(self, name: str, **arguments: Any) -> Any:
        """Call a tool that must succeed; return its structured content, unwrapped where it is no object."""
        content = (await self.tool(name, **arguments)).structured_content
        return content["result"] if content is not None and content.keys() == {"result"} else content

    async def ask(self, request: types.ClientRequest) -> None:
        """Send a request whose result is empty. (The client's own methods warn that it is an older one.)"""
        await self.client.session.send_request(request, types.EmptyResult)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for news that make the condition true."""
        while not condition():
            self._news.clear()
            await self._news.wait()

    def last(self, what: str) -> Request | None:
        """Return the last such request of this traveller that was answered."""
        mine = [
            request for request in self._guide.requests if (request.by, request.what) == (self.name, what)
        ]
        return mine[-1] if mine else None

    async def _note(self, response: httpx2.Response) -> None:
        self._guide.note(self.name, response)
        self.session_id = response.headers.get("mcp-session-id", self.session_id)
        self._news.set()

    async def _on_log(self, params: types.LoggingMessageNotificationParams) -> None:
        self.logs.append((params.level, params.data))
        self._news.set()

    async def _on_progress(self, progress: float, total: float | None, message: str | None) -> None:
        del message
        self.progress.append((progress, total))
        self._news.set()

    async def _on_message(self, message: types.ServerNotification | Exception) -> None:
        match message:
            case types.ResourceUpdatedNotification(params=params):
                self.updates.append(params.uri)
            case types.ToolListChangedNotification():
                self.tools_changed += 1
            case _:
                return
        self._news.set()

    async def _on_question(self, context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        del context
        self.questions.append(params.message)
        assert self._answer is not None  # noqa: S101 - the callback is only installed with an answer
        return self._answer


class Guide:
    """Takes the steps one by one, each under a time limit, and writes the report."""

    def __init__(self, url: str, *, narrate: Callable[[str], None], limit_seconds: float = 10) -> None:
        self.url = url
        self.report = TourReport()
        self.requests: list[Request] = []
        self._narrate = narrate
        self._limit_seconds = limit_seconds
        self._travellers: list[Traveller] = []
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Send home the travellers who have not left, with force if the server does not let them go."""
        leaving = {asyncio.create_task(traveller.leave()) for traveller in self._travellers}
        if leaving:
            _, stuck = await asyncio.wait(leaving, timeout=self._limit_seconds)
            for traveller in self._travellers if stuck else ():
                await traveller.vanish()

    async def welcome(self, name: str, *, elicitation: types.ElicitResult | None = None) -> Traveller:
        """Open a session for a new traveller, who answers questions only if an answer is given."""
        traveller = Traveller(self, name, elicitation=elicitation)
        self._travellers.append(traveller)
        await traveller.arrive()
        return traveller

    def on_departure(self, task: asyncio.Task[None]) -> None:
        """Fail the running step if a traveller has left because the client broke."""
        if not task.cancelled() and (error := task.exception()) is not None and not self._lost.done():
            self._lost.set_exception(error)
            self._lost.exception()  # seen: nobody asks for it when the step fails by itself

    async def post(self, traveller: Traveller, message: dict[str, Any]) -> int:
        """Post one message in a traveller's session with no client in between, and return the HTTP status."""
        headers = {"accept": "application/json, text/event-stream", "mcp-session-id": traveller.session_id}
        async with httpx2.AsyncClient() as http:
            response = await http.post(self.url, json=message, headers=headers)
        self.note(traveller.name, response)
        return response.status_code

    def note(self, by: str, response: httpx2.Response) -> None:
        """Put a response's instance down."""
        what = response.request.method
        if what == "POST":
            what = json.loads(response.request.content).get("method", "answer")
        self.requests.append(Request(by, what, response.status_code, response.headers.get(INSTANCE_HEADER)))

    async def step(self, title: str, action: Awaitable[str], *, expected: str) -> None:
        """Take one step: `action` returns what came back, in short.

        Raises:
            TourError: It failed, or took longer than the limit.

        """
        number = len(self.report.steps) + 1
        try:
            outcome = await self._first_of(asyncio.ensure_future(action), self._lost)
        except Exception as error:
            where = ", ".join(_instances(self._new_requests())) or "nobody"
            raise TourError(
                f"step {number}, {title}: expected {expected}; got {_plain(error)} [served by {where}]"
            ) from error
        step = Step(number, title, outcome, self._new_requests())
        self.report.steps.append(step)
        self._narrate(str(step))

    async def _first_of(self, action: asyncio.Future[str], lost: asyncio.Future[str]) -> str:
        """Return what the action returns, or raise what stopped it: itself, a lost client, or the clock."""
        try:
            done, _ = await asyncio.wait(
                {action, lost}, timeout=self._limit_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                raise _UnexpectedError(f"nothing within {self._limit_seconds:g} s")
            return (action if action in done else lost).result()
        finally:
            action.cancel()
            await asyncio.wait({action})

    def _new_requests(self) -> tuple[Request, ...]:
        """Return the requests since the last step, those that a client made by itself in between included."""
        return tuple(self.requests[len(self.report.requests) :])


def _plain(error: BaseException) -> str:
    """Say what an error was, and each one of a group."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_plain(one) for one in error.exceptions)
    return str(error) if isinstance(error, _UnexpectedError) else f"{type(error).__name__}: {error}"
