"""Modules of the package that run code while one request is served, found with `sys.setprofile`."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import tmcp_serverless

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

__all__ = ["touched_modules"]

_PACKAGE = f"{Path(tmcp_serverless.__file__).parent}/"


@contextmanager
def touched_modules() -> Generator[set[str]]:
    """Collect the modules, as paths within the package, whose functions are entered in this thread.

    A coroutine that began earlier and goes on counts too: the reading of a mailbox runs for a request.
    """
    files: set[str] = set()
    touched: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        del argument
        if event == "call":
            files.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        yield touched
    finally:
        sys.setprofile(None)
        touched |= {file.removeprefix(_PACKAGE) for file in files if file.startswith(_PACKAGE)}
