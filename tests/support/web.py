"""httpx with a limit that a busy machine keeps: its own is five seconds."""

from __future__ import annotations

from functools import partial

import httpx

__all__ = ["LIMIT_SECONDS", "get", "options", "post", "stream"]

LIMIT_SECONDS = 60.0

get = partial(httpx.get, timeout=LIMIT_SECONDS)
options = partial(httpx.options, timeout=LIMIT_SECONDS)
post = partial(httpx.post, timeout=LIMIT_SECONDS)
stream = partial(httpx.stream, timeout=LIMIT_SECONDS)
