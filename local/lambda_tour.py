"""A tour of the notes with the official client, on a function with invocations that end after a few seconds.

Ann's stream is cut at every deadline, and continued in any free sandbox; Bob writes all the while.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

import mcp_types as types

from examples.guide import Guide
from examples.report import UnexpectedError, expect

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2

    from examples.report import Request, TourReport
    from examples.traveller import Traveller

__all__ = ["tour"]

RECENT = "notes://recent"
SECTIONS = 10
DOCUMENT = "\n".join(f"# Day {number}\nTea for {number}.\n" for number in range(1, SECTIONS + 1))
PAUSE_SECONDS = 0.25
TRIES = 8
"""Attempts of a step that a busy machine may disturb: the serving sandbox, or the order of events."""


async def tour(
    url: str, *, narrate: Callable[[str], None], deadline_seconds: float, sandboxes: Callable[[], int]
) -> TourReport:
    """Take the tour, tell each step as it is done, and return the report.

    Args:
        url: The MCP endpoint.
        narrate: Gets one line for each step.
        deadline_seconds: The time limit of an invocation.
        sandboxes: Returns the number of live sandboxes.

    Raises:
        TourError: A step failed, or took longer than its limit.
    """
    async with _Guide(url, narrate=narrate, limit_seconds=10 + 3 * deadline_seconds) as guide:
        await _Tour(guide, sandboxes).take()
    return guide.report


class _Guide(Guide):
    """A guide that also notes the continued streams, and the event that each continues after."""

    def __init__(self, url: str, *, narrate: Callable[[str], None], limit_seconds: float) -> None:
        super().__init__(url, narrate=narrate, limit_seconds=limit_seconds)
        self.resumed: list[str] = []

    def note(self, by: str, response: httpx2.Response) -> None:
        super().note(by, response)
        last = response.request.headers.get("last-event-id")
        if last is not None and response.status_code == HTTPStatus.OK:
            self.resumed.append(last)


class _Tour:
    """The steps, in order. Each method returns its outcome, in short."""

    ann: Traveller
    bob: Traveller

    def __init__(self, guide: _Guide, sandboxes: Callable[[], int]) -> None:
        self._guide = guide
        self._sandboxes = sandboxes
        self._written = 0

    async def take(self) -> None:
        step = self._guide.step
        await step("Ann initializes", self._arrive(), expected="a session, and an open stream")
        await step("tools", self._tools(), expected="the tools of the notes")
        await step("write_note", self._write(), expected="the note, as structured content")
        await step("import_notes", self._import(), expected="progress, section by section, before the result")
        await step("Bob subscribes Ann", self._subscribe(), expected="Bob's note told on Ann's stream")
        await step("delete_note asks", self._delete(), expected="a question; the answer in another sandbox")
        await step("the deadline", self._deadline(), expected="a stream cut and resumed, with nothing lost")
        await step("they leave", self._leave(), expected="404 for the session afterwards")

    async def _arrive(self) -> str:
        yes = types.ElicitResult(action="accept", content={"sure": True})
        self.ann = await self._guide.welcome("Ann", elicitation=yes)
        await self.ann.until(lambda: self.ann.last("GET"))
        opened = self.ann.last("GET")
        expect(opened is not None and opened.status == HTTPStatus.OK, opened)
        return f"protocol {self.ann.client.protocol_version}, and her stream is open"

    async def _tools(self) -> str:
        tools = sorted(tool.name for tool in (await self.ann.client.list_tools()).tools)
        expect(tools == ["delete_note", "find_notes", "import_notes", "write_note"], tools)
        return ", ".join(tools)

    async def _write(self) -> str:
        note = await self.ann.call("write_note", title="Tea", text="We are out of it.", tags=["kitchen"])
        found = await self.ann.call("find_notes", words="out tea")
        expect([each["id"] for each in found] == [note["id"]], found)
        self._note = note["id"]
        return f"note {note['id']}, found again by its words"

    async def _import(self) -> str:
        for _ in range(TRIES):
            self.ann.progress.clear()
            call = asyncio.create_task(self.ann.call("import_notes", document=DOCUMENT))
            await self.ann.until(lambda: self.ann.progress)
            early = not call.done()
            ids = await call
            await self.ann.until(lambda ids=ids: len(self.ann.progress) == len(ids))
            expect(
                self.ann.progress == [(done, SECTIONS) for done in range(1, SECTIONS + 1)], self.ann.progress
            )
            self._guide.report.delivered += len(ids)
            if early:
                return f"1 of {SECTIONS} to {SECTIONS} of {SECTIONS}, the first before the result"
        raise UnexpectedError(f"all of the progress with the result, {TRIES} times")

    async def _subscribe(self) -> str:
        """Have Bob change something in another sandbox than that of Ann's stream."""
        self.bob = await self._guide.welcome("Bob")
        await self.ann.ask(types.SubscribeRequest(params=types.SubscribeRequestParams(uri=RECENT)))
        for told in range(1, TRIES + 1):
            await self._bob_writes()
            await self.ann.until(lambda told=told: len(self.ann.updates) >= told)
            expect(self.ann.updates == [RECENT] * told, self.ann.updates)
            self._guide.report.delivered += 1
            changed, held = _instance(self.bob.last("tools/call")), _instance(self.ann.last("GET"))
            if changed != held:
                return f"{RECENT} changed by {changed}, told by {held}"
        raise UnexpectedError(f"{TRIES} calls in the sandbox that holds the stream")

    async def _bob_writes(self) -> None:
        self._written += 1
        await self.bob.call("write_note", title=f"Number {self._written}", text="By Bob.")

    async def _delete(self) -> str:
        before = len(self.ann.updates)
        told = await self.ann.call("delete_note", note_id=self._note)
        expect(told == f"Note {self._note} is deleted.", told)
        expect(self.ann.questions == ["Delete 'Tea', by somebody?"], self.ann.questions)
        asked, answered = _instance(self.ann.last("tools/call")), _instance(self.ann.last("answer"))
        expect(asked != answered, asked)
        await self.ann.until(lambda: len(self.ann.updates) > before)
        self._guide.report.delivered += 1
        return f"asked by {asked}, answered to {answered}: {told}"

    async def _deadline(self) -> str:
        """Have Bob write until Ann's stream has been cut and continued, and once more after that."""
        streams, told = len(self.ann.all("GET")), len(self.ann.updates)
        first, written = _instance(self.ann.last("GET")), self._written
        while len(self.ann.all("GET")) == streams:
            await self._bob_writes()
            await asyncio.sleep(PAUSE_SECONDS)
        await self._bob_writes()
        count = self._written - written
        await self.ann.until(lambda: len(self.ann.updates) >= told + count)
        expect(len(self.ann.updates) == told + count, (len(self.ann.updates), told, count))
        expect(self._guide.resumed, "no GET with Last-Event-ID")
        self._guide.report.delivered += count
        return (
            f"{count} notes, {count} updates; {first}'s stream was cut, and continued after event "
            f"{self._guide.resumed[-1]} by {_instance(self.ann.last('GET'))}"
        )

    async def _leave(self) -> str:
        for traveller in (self.bob, self.ann):
            await traveller.leave()
        status = await self._guide.post(self.ann, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        expect(status == HTTPStatus.NOT_FOUND, status)
        return f"404; {self._sandboxes()} sandboxes live, none of which knew any other"


def _instance(request: Request | None) -> str | None:
    return request.instance if request is not None else None
