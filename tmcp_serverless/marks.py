"""The mark of tools that may be run again from the start."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["is_marked_replayable", "replayable"]

_MARK = "__tmcp_replayable__"

_Function = TypeVar("_Function")


def replayable(function: _Function) -> _Function:
    """Mark a tool's function: it may be run again from the start, and asks the same questions each time.

        @server.tool()
        @replayable
        async def book(ctx: Context) -> str:
            answer = await ctx.elicit("Which day?", Day)

    A client of the 2026-07-28 revision cannot be asked while a tool runs. For a tool so marked, the kit ends
    the run at the question, with the question as its result. It runs the tool again when the client comes
    back with the answer, on any instance: `ctx.elicit`, sampling and roots then return the answers given so
    far, in order, until the tool finishes. The code before a question runs again each time, so it should
    only read. A tool that asks something else than before is stopped with an error.

    For clients of earlier revisions nothing changes: they are asked while the tool runs.
    """
    setattr(function, _MARK, True)
    return function


def is_marked_replayable(function: Any) -> bool:
    """Return true if the function was marked."""
    return getattr(function, _MARK, False) is True
