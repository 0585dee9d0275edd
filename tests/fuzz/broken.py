"""A server with the faults that the fuzzer has to find: the proof that it finds any.

It is a bare ASGI application. The variable `FUZZ_FAULTS` has the names of its faults.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from typing import Any

__all__ = ["app"]

logger = logging.getLogger(__name__)

_FAULTS = frozenset(os.environ.get("FUZZ_FAULTS", "").split())
_PRINCIPALS: dict[str, dict[str, str]] = json.loads(os.environ["FUZZ_PRINCIPALS"])
_MARKERS = [each["marker"] for each in _PRINCIPALS.values()]
_TRACEBACK = 'Traceback (most recent call last):\n  File "/srv/app/server.py", line 7, in run\n'
_EVERY = 25
_PAUSE_SECONDS = 0.08


class _App:
    """Answers 200, or 503 as documented, with a fault now and then."""

    def __init__(self) -> None:
        self._served = 0
        self._has_hung = False

    async def drain(self) -> None:
        """Nothing is open."""

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await receive()
        self._served += 1
        if "hang" in _FAULTS and self._served > _EVERY and not self._has_hung:
            self._has_hung = True
            await asyncio.Event().wait()
        status, body, headers = self._answer(dict(scope["headers"]))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body.encode()})

    def _answer(self, headers: dict[bytes, bytes]) -> tuple[int, str, list[tuple[bytes, bytes]]]:
        if self._served % _EVERY:
            documented = [(b"retry-after", b"1")]
            return (503, "later", documented) if "503" in _FAULTS else (200, "{}", [])
        if "end" in _FAULTS and self._served > 2 * _EVERY:
            os._exit(3)
        if "token" in _FAULTS:
            logger.debug("a caller's headers: %r", headers)
        if "pause" in _FAULTS:
            time.sleep(_PAUSE_SECONDS)  # the fault
        body = "{}"
        if "marker" in _FAULTS:
            body = " ".join(_MARKERS)
        if "traceback" in _FAULTS:
            body = _TRACEBACK
        return 500 if "500" in _FAULTS else 200, body, []


app = _App()
