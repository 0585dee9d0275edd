"""Exits in user code: `SystemExit`, `KeyboardInterrupt` and any other `BaseException` that is no `Exception`.

A tool may be a command-line program that ends with `sys.exit`. Its exit is an error of the one call, and not
the end of the process that serves the others.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tmcp_serverless.errors import TmcpError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Contained", "ExitError", "current_task", "is_end_of", "raising_exceptions_only"]


class ExitError(TmcpError):
    """User code raised a `BaseException` that is no `Exception`; it is the cause of this error."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"the code exited with {type(error).__name__}: {_text(error)}")


class Contained:
    """A block that user code does not exit: an exit becomes an `ExitError`.

    Exceptions and cancellation pass.
    """

    def __enter__(self) -> None:
        self._task = current_task()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, (Exception, asyncio.CancelledError)):
            return
        if is_end_of(self._task, error):
            return
        raise ExitError(error) from error


def raising_exceptions_only(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a thread; its exits are `ExitError`s there.

    So is `StopIteration`: an asyncio future does not take it, and the caller would wait forever.
    """
    try:
        return function(*arguments)
    except StopIteration as error:
        raise ExitError(error) from error
    except Exception:
        raise
    except BaseException as error:
        raise ExitError(error) from error


def current_task() -> asyncio.Task[object] | None:
    """Return the running task; `None` outside of an event loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def is_end_of(task: asyncio.Task[object] | None, error: BaseException) -> bool:
    """Return true if an error ends the task from outside: its host cancelled it, or drops its coroutine."""
    if isinstance(error, asyncio.CancelledError):
        return task is not None and task.cancelling() > 0
    # A coroutine that is dropped is closed by another task, or by none.
    return isinstance(error, GeneratorExit) and (task is None or current_task() is not task)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - `__str__` is user code as well
        return "(cannot be printed)"
