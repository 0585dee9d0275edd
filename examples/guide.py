"""Guide of the official client: takes it through an MCP server step by step, and records the instances.

Each step has a time limit. Responses name the instance that made them in the `x-tmcp-instance` header.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Self

import httpx2
import mcp_types as types

from examples.report import Request, Step, TourError, TourReport, UnexpectedError, instances_of
from examples.traveller import Traveller

__all__ = ["Guide"]

INSTANCE_HEADER = "x-tmcp-instance"


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
        """Send home the remaining travellers, with force if the server does not let them go."""
        leaving = {asyncio.create_task(traveller.leave()) for traveller in self._travellers}
        if leaving:
            _, stuck = await asyncio.wait(leaving, timeout=self._limit_seconds)
            for traveller in self._travellers if stuck else ():
                await traveller.vanish()

    async def welcome(
        self,
        name: str,
        *,
        elicitation: types.ElicitResult | None = None,
        mode: Literal["legacy", "auto"] = "legacy",
    ) -> Traveller:
        """Connect a new traveller. It answers questions only if an answer is given.

        In `legacy` mode it sends `initialize` and has a session; in `auto` mode it asks for the server's
        revisions.
        """
        traveller = Traveller(self, name, elicitation=elicitation, mode=mode)
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
        """Record a response and its instance."""
        what = response.request.method
        if what == "POST":
            what = json.loads(response.request.content).get("method", "answer")
        self.requests.append(Request(by, what, response.status_code, response.headers.get(INSTANCE_HEADER)))

    async def step(self, title: str, action: Awaitable[str], *, expected: str) -> None:
        """Take one step: `action` returns its outcome, in short.

        Raises:
            TourError: It failed, or took longer than the limit.
        """
        number = len(self.report.steps) + 1
        try:
            outcome = await self._first_of(asyncio.ensure_future(action), self._lost)
        except Exception as error:
            where = ", ".join(instances_of(self._new_requests())) or "nobody"
            raise TourError(
                f"step {number}, {title}: expected {expected}; got {_plain(error)} [served by {where}]"
            ) from error
        step = Step(number, title, outcome, self._new_requests())
        self.report.steps.append(step)
        self._narrate(str(step))

    async def _first_of(self, action: asyncio.Future[str], lost: asyncio.Future[str]) -> str:
        """Return the action's result, or raise its own error, a lost client's, or that of the time limit."""
        try:
            done, _ = await asyncio.wait(
                {action, lost}, timeout=self._limit_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                raise UnexpectedError(f"nothing within {self._limit_seconds:g} s")
            return (action if action in done else lost).result()
        finally:
            action.cancel()
            await asyncio.wait({action})

    def _new_requests(self) -> tuple[Request, ...]:
        """Return the requests since the last step, including those that a client made by itself."""
        return tuple(self.requests[len(self.report.requests) :])


def _plain(error: BaseException) -> str:
    """Return the text of an error, or of each error of a group."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_plain(one) for one in error.exceptions)
    return str(error) if isinstance(error, UnexpectedError) else f"{type(error).__name__}: {error}"
