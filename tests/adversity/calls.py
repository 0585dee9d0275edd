"""Tool calls whose answers are resumed when they are cut: each must be answered, or clearly refused."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.adversity.wire import Answer, BrokenError, request

if TYPE_CHECKING:
    from tests.adversity.ledger import Ledger
    from tests.adversity.timeline import Timeline

__all__ = ["Call", "Calls"]

_ANSWER_SECONDS = 90.0
"""A call is answered by then: the tool's own time, an instance stopped past its lease, the lease of a dead
one (10 s), two looks at whether it is still there, and faults that make it begin to look again."""

_HEAD_SECONDS = 20.0
_AGAIN_SECONDS = 0.05


@dataclass(slots=True)
class Call:
    """One tool call, and what has come of it."""

    session: int
    session_id: str
    number: int
    steps: int
    pause_seconds: float
    begun: float
    instance: str = "?"
    last_event_id: str | None = None
    retry_seconds: float = 1.0
    steps_seen: list[int] = field(default_factory=list[int])
    answer: dict[str, Any] | None = None
    current: Answer | None = None

    def message(self) -> dict[str, Any]:
        """Return the request."""
        arguments = {"steps": self.steps, "pause_seconds": self.pause_seconds}
        params = {"name": "count", "arguments": arguments, "_meta": {"progressToken": self.number}}
        return {"jsonrpc": "2.0", "id": self.number, "method": "tools/call", "params": params}


class Calls:
    """Makes calls, and judges them."""

    def __init__(self, port: int, *, ledger: Ledger, timeline: Timeline) -> None:
        self._port = port
        self._ledger = ledger
        self._timeline = timeline
        self._number = 0
        self.running: list[Call] = []
        self.answered = self.errors = self.refused = self.resumed = self.events = self.unstored = 0

    async def call(self, session: int, session_id: str, *, steps: int, pause_seconds: float) -> None:
        """Make one call, resume it as often as it takes, and write down what is wrong with its answer."""
        self._number += 1
        call = Call(session, session_id, self._number, steps, pause_seconds, self._timeline.now())
        self.running.append(call)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                refused = await self._until_answered(call)
        except TimeoutError:
            self._find("lost", call, f"no answer after {_ANSWER_SECONDS:.0f} s")
            return
        finally:
            self.running.remove(call)
        if refused:
            self.refused += 1
            self._note(call, f"was refused: {refused}")
        else:
            self._judge(call)

    async def _until_answered(self, call: Call) -> str:
        """Read until the answer is there; or return how the call was refused before it began to stream."""
        refused = await self._read(call, "POST")
        while call.answer is None and not refused:
            if call.last_event_id is None:
                return "the connection was cut before anything came"
            self.resumed += 1
            await self._read(call, "GET")
        return refused

    async def _read(self, call: Call, method: str) -> str:
        try:
            call.current = await request(
                self._port,
                method,
                session=call.session_id,
                message=call.message() if method == "POST" else None,
                last_event_id=call.last_event_id if method == "GET" else None,
                head_seconds=_HEAD_SECONDS if method == "POST" else 3.0,
            )
            if method == "POST":
                call.instance = call.current.instance
            self._note(call, f"{method} got {call.current.status} from {call.current.instance}")
            return await self._take_body(call, call.current)
        except BrokenError as error:
            self._note(call, f"{method} got {error}")
            await asyncio.sleep(_AGAIN_SECONDS)
            return "" if method == "GET" or call.last_event_id else str(error)
        finally:
            if call.current is not None:
                call.current.abort()
                call.current = None

    async def _take_body(self, call: Call, answer: Answer) -> str:
        if answer.status == 200 and answer.headers.get("content-type", "").startswith("text/event-stream"):
            async for event in answer.events():
                call.last_event_id = event.id or call.last_event_id
                if event.retry is not None:
                    call.retry_seconds = event.retry / 1000
                if event.data:
                    self._take(call, json.loads(event.data))
            if call.answer is None:
                await asyncio.sleep(call.retry_seconds)
            return ""
        message = await answer.message()
        if answer.status == 200:
            self._take(call, message)
        elif answer.status == 503:
            await asyncio.sleep(0.5)
        else:
            self._find("other", call, f"HTTP {answer.status}: {message}")
        return "" if answer.status == 200 else f"HTTP {answer.status}"

    def _take(self, call: Call, message: dict[str, Any]) -> None:
        self.events += 1
        if message.get("method") == "notifications/progress":
            if message["params"]["progressToken"] != call.number:
                self._find("foreign", call, f"given {message}")
            call.steps_seen.append(int(message["params"]["progress"]))
        elif message.get("id") != call.number or call.answer is not None:
            self._find("foreign" if call.answer is None else "duplicated", call, f"given {message}")
        else:
            call.answer = message

    def _judge(self, call: Call) -> None:
        answer = call.answer or {}
        self._note(call, f"was answered {json.dumps(answer)[:160]}")
        if "error" in answer:
            self.errors += 1
            if not answer["error"].get("message"):
                self._find("other", call, "an error without a message")
            now = self._timeline.now()
            if not self._timeline.was_killed(call.instance, call.begun, now) and not (
                self._timeline.store_was_away(call.begun, now)
            ):
                self._find(
                    "other", call, f"wrongly answered {answer['error']}: instance {call.instance} lived,"
                )
        else:
            self.answered += 1
            text = answer["result"]["content"][0]["text"]
            if text != f"counted to {call.steps}":
                self._find("foreign", call, f"answered {text!r}")
        self._judge_steps(call, complete="error" not in answer)

    def _judge_steps(self, call: Call, *, complete: bool) -> None:
        seen = call.steps_seen
        if len(set(seen)) < len(seen):
            self._find("duplicated", call, f"its steps came as {seen}")
        elif seen != sorted(seen):
            self._find("disordered", call, f"its steps came as {seen}")
        last = call.steps if complete else max(seen, default=0)
        missing = sorted(set(range(1, last + 1)) - set(seen))
        if missing and self._timeline.store_was_away(call.begun, self._timeline.now()):
            self.unstored += len(
                missing
            )  # documented: what cannot be stored goes to who is connected, or nowhere
        elif missing:
            self._find("lost", call, f"steps {missing} of {call.steps} never came")

    def _find(self, kind: str, call: Call, why: str) -> None:
        now = self._timeline.now()
        text = (
            f"call {call.number} of session {call.session}, made at {call.begun:.3f} s, {why} at {now:.3f} s"
        )
        about = self._timeline.around(call.begun, now, about=f"call {call.number} ")
        self._ledger.findings.add(kind, "\n".join([text, *about[:80]]))

    def _note(self, call: Call, text: str) -> None:
        self._timeline.note(f"call {call.number} {text}")
