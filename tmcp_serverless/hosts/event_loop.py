"""Event loops that outlive the tasks which exit on them, and the one of a sandbox on AWS's own runtime."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["run", "run_until_complete", "sandbox_loop"]

logger = logging.getLogger(__name__)


def sandbox_loop() -> asyncio.AbstractEventLoop:
    """Return the one loop that everything is served on, for the life of the sandbox; it is made at first."""
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

    asyncio ends its loop when any task raises `SystemExit` or `KeyboardInterrupt`, such as one that a tool
    has started in the background. Such an exit is logged, and the loop goes on.
    """
    task = loop.create_task(main)
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done() and not task.cancelled() and task.exception() is error:
                raise
            logger.exception("a background task exited with %s", type(error).__name__)
