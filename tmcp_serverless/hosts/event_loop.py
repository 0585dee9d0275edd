"""Event loops that outlive a task that exits on them, and the loop of a sandbox on AWS's own runtime."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

__all__ = ["run", "run_until_complete", "sandbox_loop"]

logger = logging.getLogger(__name__)


def sandbox_loop() -> asyncio.AbstractEventLoop:
    """Return the sandbox's event loop, the same for its whole life; the first call makes it."""
    try:
        return asyncio.get_event_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        return loop


def run(
    main: Coroutine[Any, Any, Any], *, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> Any:
    """Run a coroutine on an event loop of its own, as `asyncio.run` does, though other tasks may exit."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return run_until_complete(runner.get_loop(), main)


def run_until_complete(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end, though other tasks may exit.

    asyncio ends its loop when any task raises `SystemExit` or `KeyboardInterrupt`, such as a task that a tool
    has started in the background. Such an exit is logged, and the loop goes on. The first Ctrl-C cancels the
    coroutine, as with `asyncio.run`. The second ends the loop.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
        BaseException: The coroutine's own error.
    """
    task = loop.create_task(main)
    with _Interrupts(loop, task).heard() as interrupts:
        while True:
            try:
                return loop.run_until_complete(task)
            except (Exception, asyncio.CancelledError) as error:
                if interrupts.count:
                    raise KeyboardInterrupt from error
                raise
            except (SystemExit, KeyboardInterrupt) as error:
                own = task.done() and not task.cancelled() and task.exception() is error
                if own or interrupts.count > 1:
                    raise
                logger.exception("a background task exited with %s", type(error).__name__)


class _Interrupts:
    """The SIGINTs while a loop runs: Ctrl-C, and not the `KeyboardInterrupt` of a task."""

    def __init__(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        self.count = 0
        self._loop = loop
        self._task = task

    @contextlib.contextmanager
    def heard(self) -> Generator[_Interrupts]:
        """Replace Python's own SIGINT handler. Do nothing about any other, or outside of the main thread."""
        if (
            threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        ):
            yield self
            return
        signal.signal(signal.SIGINT, self._hear)
        try:
            yield self
        finally:
            if signal.getsignal(signal.SIGINT) == self._hear:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def _hear(self, _number: int, _frame: object) -> None:
        self.count += 1
        if self.count > 1 or self._task.done():
            raise KeyboardInterrupt
        self._task.cancel()
        self._loop.call_soon_threadsafe(_wake_up)


def _wake_up() -> None:
    """Do nothing: the call wakes a loop that waits for its sockets, and the loop runs its tasks."""
