"""One invocation: an event on its way to a sandbox, and the answer on its way to the client."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

__all__ = ["Failure", "Invocation"]

_CHUNKS = 32
"""Pieces that wait for a slow client before the function has to wait."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason for an invocation without an answer, or without a whole one."""

    type: str
    body: bytes
    """The body for callers of the function, as JSON."""

    @classmethod
    def of(cls, type: str, message: str) -> Failure:
        """Return a failure that the platform finds."""
        return cls(type, json.dumps({"errorType": type, "errorMessage": message}).encode())

    @property
    def message(self) -> str:
        """One sentence: the error's type and its message."""
        try:
            error = json.loads(self.body)
            return f"{error['errorType']}: {error['errorMessage']}"
        except (ValueError, LookupError, TypeError):
            return self.type


class Invocation:
    """An event, and its answer piece by piece. One side writes, one side reads."""

    def __init__(self, event: bytes, *, timeout_seconds: float) -> None:
        self.id = str(uuid.uuid4())
        self.event = event
        self.timeout_seconds = timeout_seconds
        self.started_at = time.time()
        self.sandbox = ""
        """The name of the sandbox that serves it."""

        self.streamed = False
        """True if the answer is delivered as it is written."""

        self.content_type = ""
        self.ended = False
        self.failure: Failure | None = None
        self._begun = asyncio.Event()
        self._chunks: deque[bytes] = deque()
        self._come = asyncio.Event()
        self._room = asyncio.Event()
        self._abandoned = False

    @property
    def deadline_ms(self) -> int:
        """Time at which the sandbox is killed, in milliseconds since 1970."""
        return round((self.started_at + self.timeout_seconds) * 1000)

    def begin(self, headers: Mapping[str, str]) -> None:
        """Begin the answer, with the headers that the runtime sent it with."""
        self.streamed = headers.get("lambda-runtime-function-response-mode") == "streaming"
        self.content_type = headers.get("content-type", "")
        self._begun.set()

    async def write(self, data: bytes) -> None:
        """Add a piece of the answer; wait while the client is slow."""
        while len(self._chunks) >= _CHUNKS and not self._abandoned and not self.ended:
            self._room.clear()
            await self._room.wait()
        if not self._abandoned and not self.ended:
            self._chunks.append(data)
            self._come.set()

    def end(self, failure: Failure | None = None) -> None:
        """End the answer. The first end counts."""
        if not self.ended:
            self.ended = True
            self.failure = failure
            for event in (self._begun, self._come, self._room):
                event.set()

    def abandon(self) -> None:
        """Stop reading: later pieces are dropped. The function does not notice."""
        self._abandoned = True
        self._chunks.clear()
        self._room.set()

    async def begun(self) -> None:
        """Wait until the answer has begun, or failed before it did."""
        await self._begun.wait()

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the pieces of the answer, to its end or its failure."""
        while True:
            while self._chunks:
                yield self._chunks.popleft()
                self._room.set()
            if self.ended:
                return
            self._come.clear()
            await self._come.wait()

    async def whole(self) -> bytes:
        """Read all of the answer."""
        return b"".join([chunk async for chunk in self.chunks()])
