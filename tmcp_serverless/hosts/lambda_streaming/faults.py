"""Faults of an initialization or an invocation, in the form that the Runtime API expects."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import traceback
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FAILURES", "Fault", "FaultError", "is_own_end", "words_of"]

FAILURES = (Exception, asyncio.CancelledError)
"""Errors that users' code fails with. Awaiting a task that was cancelled raises a `CancelledError`;
`is_own_end` tells it from the cancellation of the awaiting task itself."""

_FRAMES = 50
_NAME_CHARACTERS = 150
_MESSAGE_BYTES = 1_000
_XRAY_BYTES = 60_000
"""Less than the limit for the head of a request; AWS's own runtime leaves it out above 1 MiB."""

_TRAILER_BYTES = 2_400
"""Bytes that the JSON in a trailer may have; in base64 they are 3,200. The Runtime API reads trailers in a
buffer of 4 KiB. If they do not fit, the API and the sandbox end (Go, net/http: "suspiciously long
trailer")."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An error of the function or of its runtime."""

    type: str
    """The name of an exception's class, or `Runtime.<Reason>`."""

    message: str
    trace: list[str] = field(default_factory=list)
    xray_cause: str = ""
    """The same for X-Ray, as JSON; empty if nothing was raised."""

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Return the fault of an exception, with its last 50 frames at the most."""
        if isinstance(error, FaultError):
            return cast("Self", error.fault)
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
        name, words = type(error).__name__, words_of(error)
        return cls(name, words, traceback.format_list(frames), _xray_cause(name, words, frames))

    @property
    def header(self) -> str:
        """The error type in the Runtime API's form: `Runtime.<Reason>` or `Function.<Reason>`.

        A header's value is ASCII without spaces, and the name of a class may have any characters.
        """
        name = self.type if self.type.startswith("Runtime.") else f"Function.{self.type}"
        return re.sub(r"[^A-Za-z0-9._]", "_", name)[:_NAME_CHARACTERS]

    def as_json(self, request_id: str = "") -> bytes:
        """Return the body for callers of the function."""
        body = {
            "errorMessage": self.message,
            "errorType": self.type,
            "requestId": request_id,
            "stackTrace": self.trace,
        }
        return json.dumps(body).encode()

    def trailers(self) -> list[tuple[str, str]]:
        """Return the trailers that end an answer after its beginning. Their text is cut if it is too long."""
        return [
            ("Lambda-Runtime-Function-Error-Type", self.header),
            ("Lambda-Runtime-Function-Error-Body", base64.b64encode(self._cut().as_json()).decode()),
        ]

    def _cut(self) -> Self:
        """Return the fault with its name and message cut, and with as many of the last frames as fit."""
        message = self.message[:_MESSAGE_BYTES]
        while len(json.dumps(message)) > _MESSAGE_BYTES:
            message = message[: len(message) // 2]
        cut = replace(self, type=self.type[:_NAME_CHARACTERS], message=message)
        while cut.trace and len(cut.as_json()) > _TRAILER_BYTES:
            cut = replace(cut, trace=cut.trace[1:])
        return cut


class FaultError(Exception):
    """An error that carries a fault to be reported as it is."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.type}: {fault.message}")
        self.fault = fault


def _xray_cause(name: str, words: str, frames: Sequence[traceback.FrameSummary]) -> str:
    stack = [{"label": each.name, "path": each.filename, "line": each.lineno} for each in frames]
    cause = {
        "working_directory": os.getcwd(),  # noqa: PTH109 - text is wanted
        "exceptions": [{"message": words, "type": name, "stack": stack}],
        "paths": sorted({each.filename for each in frames}),
    }
    text = json.dumps(cause)
    return text if len(text) < _XRAY_BYTES else ""


def words_of(error: BaseException) -> str:
    """Return the text of an exception. Its `__str__` may fail, like any code of the user's."""
    try:
        return str(error)
    except Exception as worse:  # noqa: BLE001 - the same
        return f"({type(error).__name__}, which cannot be printed: {type(worse).__name__})"


def is_own_end(error: BaseException) -> bool:
    """Return `True` if an error is the cancellation of the running task itself."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
