"""A session's client: holds its standalone stream, resumes it whenever it ends, reports what it is given."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from tests.adversity.wire import Answer, BrokenError, request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from tests.adversity.ledger import Ledger
    from tests.adversity.timeline import Timeline

__all__ = ["Listener"]

_HEAD_SECONDS = 3.0
"""How long a client waits for the headers of a stream before it tries another instance."""

_FENCED_SECONDS = 3.5
"""One tick, and what a busy machine takes: a stream that was taken over is written no message after that."""

_TWINS_SECONDS = 0.5
"""How long two streams of one session are held side by side."""

_AGAIN_SECONDS = 0.05
_LOSING_SECONDS = 0.3
_UNAVAILABLE_SECONDS = 0.5


class _Stream:
    """One GET's answer, read as it comes: kept, passed on, or ignored."""

    def __init__(self, listener: Listener, answer: Answer) -> None:
        self._listener = listener
        self.answer = answer
        self._kept: list[tuple[str | None, str, float]] = []
        self._passing = False
        self.opened = asyncio.Event()
        """Set when an event has come, or an id to resume from."""
        self.muted_at: float | None = None
        self.ignored: list[tuple[str, float]] = []
        """The messages that came after that, and when."""

        self.was_cut = False
        self.task = asyncio.create_task(self._read())

    def mute(self) -> None:
        """Ignore what comes from now on."""
        self.muted_at = self._listener.timeline.now()

    def pass_on(self) -> None:
        """Pass on what came, and what comes."""
        self._passing = True
        for kept in self._kept:
            self._listener.take(*kept)
        self._kept.clear()

    async def aclose(self) -> None:
        """Let go of the connection."""
        self.answer.abort()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def _read(self) -> None:
        try:
            async for event in self.answer.events():
                if event.retry is not None:
                    self._listener.retry_seconds = event.retry / 1000
                if event.id or event.data:
                    self.opened.set()
                if event.data and self.muted_at is not None:
                    self.ignored.append((event.data, self._listener.timeline.now()))
                if (event.data or event.id) and self.muted_at is None:
                    fact = (event.id, event.data, self._listener.timeline.now())
                    if self._passing:
                        self._listener.take(*fact)
                    else:
                        self._kept.append(fact)
        except BrokenError:
            self.was_cut = True


class Listener:
    """One session: `index` is what the books know it by, `id` what the server knows it by."""

    def __init__(
        self, index: int, id: str, port: int, *, ledger: Ledger, timeline: Timeline, rng: Random
    ) -> None:
        self.index = index
        self.id = id
        self.retry_seconds = 1.0
        self.timeline = timeline
        self.streams_opened = 0
        self._port = port
        self._ledger = ledger
        self._rng = rng
        self._last_event_id: str | None = None
        self._stream: _Stream | None = None
        self._wanted: str | None = None
        self._nudge = asyncio.Event()
        self._ghosts: set[asyncio.Task[None]] = set()

    @property
    def instance(self) -> str | None:
        """Which instance holds the stream; `None` while none does."""
        return None if self._stream is None else self._stream.answer.instance

    @property
    def has_place(self) -> bool:
        """Whether it has an event id to resume from: before that, what a cut swallows cannot be asked for."""
        return self._last_event_id is not None

    def take(self, id: str | None, data: str, at: float) -> None:
        """Take an event."""
        if id is not None:
            self._last_event_id = id
        if data:
            self._ledger.arrived(self.index, data, at)

    def cut(self) -> None:
        """Reset our own connection."""
        if self._stream is not None:
            self._stream.answer.abort()

    def want(self, what: str) -> None:
        """Ask for `takeover` (another GET before the first has ended) or `twins` (two GETs at once)."""
        self._wanted = what
        self._nudge.set()

    async def lose_first_stream(self, send: Callable[[], Awaitable[None]]) -> None:
        """Open a stream, read how it begins, and lose it with all that `send` has sent to it since."""
        stream = await self._open_persistently()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HEAD_SECONDS):
                await stream.opened.wait()
        stream.pass_on()
        stream.mute()
        await send()
        await asyncio.sleep(_LOSING_SECONDS)
        self._note("lost its first stream")
        await stream.aclose()

    async def run(self) -> None:
        """Hold the stream until cancelled."""
        try:
            while True:
                self._stream = await self._open_persistently()
                self._stream.pass_on()
                await self._follow(self._stream)
        finally:
            for ghost in self._ghosts:
                ghost.cancel()
            await asyncio.gather(*self._ghosts, return_exceptions=True)
            if self._stream is not None:
                await self._stream.aclose()

    async def _follow(self, stream: _Stream) -> None:
        """Read a stream until it ends, or until there is to be another."""
        while not stream.task.done():
            nudged = asyncio.create_task(self._nudge.wait())
            await asyncio.wait({nudged, stream.task}, return_when=asyncio.FIRST_COMPLETED)
            nudged.cancel()
            self._nudge.clear()
            wanted, self._wanted = self._wanted, None
            if wanted is not None and not stream.task.done():
                stream.mute()
                self._note("opens a second stream" if wanted == "takeover" else "opens two streams")
                stream = await (self._take_over(stream) if wanted == "takeover" else self._twins(stream))
        self._stream = None
        how = "cut" if stream.was_cut else "ended"
        self._note(f"stream {how} by {stream.answer.instance}")
        await stream.aclose()
        # At once after a cut, and after the hint where the server took its leave.
        await asyncio.sleep(_AGAIN_SECONDS if stream.was_cut else self.retry_seconds)

    async def _take_over(self, old: _Stream) -> _Stream:
        new = await self._open_persistently()
        self._watch(old, new)
        self._stream = new
        new.pass_on()
        return new

    async def _twins(self, old: _Stream) -> _Stream:
        """Hold two streams side by side for a moment, then begin again behind the last event before them."""
        twins = [each for each in await asyncio.gather(self._open(), self._open()) if each is not None]
        for each in twins:
            each.mute()
        await asyncio.sleep(_TWINS_SECONDS)
        for each in twins:
            await each.aclose()
        return await self._take_over(old)

    def _watch(self, old: _Stream, new: _Stream) -> None:
        task = asyncio.create_task(self._stand_by(old, new))
        self._ghosts.add(task)
        task.add_done_callback(self._ghosts.discard)

    async def _stand_by(self, old: _Stream, new: _Stream) -> None:
        """See that a stream that was taken over is written no message while the other one is open."""
        begun = self.timeline.now()
        try:
            await asyncio.wait(
                {old.task, new.task}, timeout=2 * _FENCED_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            late = [data for data, at in old.ignored if at > begun + _FENCED_SECONDS]
            if late and not new.task.done() and self._stream is new:
                text = f"a stream of {old.answer.instance} that stands by was written {late[0][:80]}"
                self._find_calm(text, begun, _FENCED_SECONDS)
        finally:
            await old.aclose()

    def _find_calm(self, text: str, begun: float, calm_seconds: float) -> None:
        now = self.timeline.now()
        if self.timeline.longest_calm(begun, now) >= calm_seconds:
            about = self.timeline.around(begun, now, about=f"session {self.index} ")
            finding = f"session {self.index}: {text}, since {begun:.3f} s"
            self._ledger.findings.add("other", "\n".join([finding, *about]))

    async def _open_persistently(self) -> _Stream:
        while (stream := await self._open()) is None:
            pass
        return stream

    async def _open(self) -> _Stream | None:
        """Open a stream behind the last event; when that fails, wait a little and return nothing."""
        try:
            answer = await request(
                self._port,
                "GET",
                session=self.id,
                last_event_id=self._last_event_id,
                head_seconds=_HEAD_SECONDS,
            )
        except BrokenError as error:
            self._note(f"got {error}")
            await asyncio.sleep(_AGAIN_SECONDS + self._rng.random() * 0.1)
            return None
        self._note(f"got {answer.status} from {answer.instance} behind {self._last_event_id}")
        if answer.status == 200:
            self.streams_opened += 1
            return _Stream(self, answer)
        if answer.status != 503:
            self._ledger.findings.add("other", f"session {self.index} got {answer.status} for its stream")
        with contextlib.suppress(BrokenError):
            await answer.message()
        answer.close()
        await asyncio.sleep(_UNAVAILABLE_SECONDS)
        return None

    def _note(self, text: str) -> None:
        self.timeline.note(f"session {self.index} {text}")
