"""What went wrong with an initialization or an invocation, as the Runtime API is told."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import traceback
from dataclasses import dataclass, field, replace
from typing import Self

__all__ = ["FAILURES", "Fault", "is_own_end", "words_of"]

FAILURES = (Exception, asyncio.CancelledError)
"""What users' code ends with when it fails. Awaiting a task that somebody has cancelled is a
`CancelledError`; `is_own_end` tells it from the one that ends the task which awaits."""

_FRAMES = 50
_NAME_CHARACTERS = 150
_MESSAGE_BYTES = 1_000
_TRAILER_BYTES = 2_400
"""How long the JSON in a trailer may be; in base64 it is 3,200. The Runtime API reads trailers in a buffer of
4 KiB: where they do not fit, it and the sandbox end (Go, net/http: "suspiciously long trailer")."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An error of the function or of its runtime."""

    type: str
    """The name of an exception's class, or `Runtime.<Reason>`."""

    message: str
    trace: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Return what is said about an exception: its last 50 frames at the most."""
        frames = traceback.format_tb(error.__traceback__)
        return cls(type(error).__name__, words_of(error), frames[-_FRAMES:])

    @property
    def header(self) -> str:
        """The error type as the Runtime API takes it: `Runtime.<Reason>` or `Function.<Reason>`.

        A header's value is ASCII without spaces, and a class may be called anything.
        """
        name = self.type if self.type.startswith("Runtime.") else f"Function.{self.type}"
        return re.sub(r"[^A-Za-z0-9._]", "_", name)[:_NAME_CHARACTERS]

    def as_json(self) -> bytes:
        """Return the body that callers of the function get."""
        body = {"errorMessage": self.message, "errorType": self.type, "stackTrace": self.trace}
        return json.dumps(body).encode()

    def trailers(self) -> list[tuple[str, str]]:
        """Return what ends an answer that has begun. What is too long there is cut."""
        return [
            ("Lambda-Runtime-Function-Error-Type", self.header),
            ("Lambda-Runtime-Function-Error-Body", base64.b64encode(self._cut().as_json()).decode()),
        ]

    def _cut(self) -> Self:
        """Return the beginning of the name and of the message, and as many of the last frames as fit."""
        message = self.message[:_MESSAGE_BYTES]
        while len(json.dumps(message)) > _MESSAGE_BYTES:
            message = message[: len(message) // 2]
        cut = replace(self, type=self.type[:_NAME_CHARACTERS], message=message)
        while cut.trace and len(cut.as_json()) > _TRAILER_BYTES:
            cut = replace(cut, trace=cut.trace[1:])
        return cut


def words_of(error: BaseException) -> str:
    """Return what an exception says of itself, whose `__str__` may fail as well as anything of the user's."""
    try:
        return str(error)
    except Exception as worse:  # noqa: BLE001 - the same
        return f"({type(error).__name__}, which cannot be printed: {type(worse).__name__})"


def is_own_end(error: BaseException) -> bool:
    """Return whether an error is that the running task itself was cancelled."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
