"""What went wrong with an initialization or an invocation, as the Runtime API is told."""

from __future__ import annotations

import base64
import json
import traceback
from dataclasses import dataclass, field
from typing import Self

__all__ = ["Fault"]

_FRAMES = 50


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
        return cls(type(error).__name__, str(error), frames[-_FRAMES:])

    @property
    def header(self) -> str:
        """The error type as the Runtime API takes it: `Runtime.<Reason>` or `Function.<Reason>`."""
        return self.type if self.type.startswith("Runtime.") else f"Function.{self.type}"

    def as_json(self) -> bytes:
        """Return the body that callers of the function get."""
        body = {"errorMessage": self.message, "errorType": self.type, "stackTrace": self.trace}
        return json.dumps(body).encode()

    def trailers(self) -> list[tuple[str, str]]:
        """Return what ends an answer that has begun."""
        return [
            ("Lambda-Runtime-Function-Error-Type", self.header),
            ("Lambda-Runtime-Function-Error-Body", base64.b64encode(self.as_json()).decode()),
        ]
