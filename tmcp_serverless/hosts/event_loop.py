"""The event loop of a sandbox on AWS's own runtime, which calls handlers outside of any."""

from __future__ import annotations

import asyncio

__all__ = ["sandbox_loop"]


def sandbox_loop() -> asyncio.AbstractEventLoop:
    """Return the one loop that everything is served on, for the life of the sandbox; it is made at first."""
    try:
        return asyncio.get_event_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        return loop
