"""Health checks of platforms: liveness of the process (`/healthz`), readiness of its database (`/readyz`).

Both are outside of authentication, and of the `Host` and `Origin` lists: a platform's probes come with a
`Host` of their own and with no credential. So an answer names a problem in general, and the setting that is
wrong, but no value; the log has it in full.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from tmcp_serverless.errors import ConfigurationError, SchemaError, StoreUnavailableError, TmcpError
from tmcp_serverless.http import path_of, respond

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tmcp_serverless.http import Receive, Scope, Send

__all__ = ["Health"]

logger = logging.getLogger(__name__)

_Verdict: TypeAlias = tuple[int, dict[str, str]]
_WRONG_SETTING = re.compile(
    r"\b(?P<setting>TMCP_[A-Z_]+)(?: (?P<fault>is not a Postgres connection string|does not work))?"
)
_READY: _Verdict = (200, {"status": "ready"})


class Health:
    """Answers at two paths.

    Args:
        check: Checks that the store can be used, and raises an error if not.
        health_path: The path that is always answered with 200. Empty: not served.
        ready_path: The path that is answered with 200, or with 503 and the problem. Empty: not served.

    """

    check_seconds: ClassVar = 5.0
    kept_seconds: ClassVar = 1.0
    """Any client may ask: the database is asked once in this time, for any number of requests."""

    def __init__(
        self, check: Callable[[], Awaitable[None]], *, health_path: str = "", ready_path: str = ""
    ) -> None:
        self._check = check
        # As `path_of` has it: without a slash at the end.
        self._ready_path = ready_path.rstrip("/") if ready_path else None
        self.paths = frozenset(path.rstrip("/") for path in (health_path, ready_path) if path)
        """Paths that it answers at, in the form of `path_of`."""

        self._asking = asyncio.Lock()
        self._verdict = _READY
        self._asked_at = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        del receive
        status, said = 200, {"status": "ok"}
        if scope["method"] not in ("GET", "HEAD"):
            status, said = 405, {"status": "method not allowed"}
        elif path_of(scope) == self._ready_path:
            status, said = await self._ready()
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        body = json.dumps(said, separators=(",", ":")).encode()
        headers.append((b"content-length", str(len(body)).encode()))
        await respond(send, status, b"" if scope["method"] == "HEAD" else body, headers)

    async def _ready(self) -> _Verdict:
        async with self._asking:
            if time.monotonic() - self._asked_at >= self.kept_seconds:
                self._verdict = await self._ask()
                self._asked_at = time.monotonic()
            return self._verdict

    async def _ask(self) -> _Verdict:
        try:
            async with asyncio.timeout(self.check_seconds):
                await self._check()
        except (TmcpError, TimeoutError) as error:
            logger.warning("not ready: %s", error or "the database did not answer in time")
            return 503, {"status": "not ready", **_told(error)}
        except Exception as error:
            # A bug of ours, or of a custom session manager: such a process is not ready either.
            logger.exception("not ready")
            return 503, {"status": "not ready", **_told(error)}
        return _READY


def _told(error: BaseException) -> dict[str, str]:
    """Return a description for any client: it has no address, no user, no setting's value."""
    match error:
        case SchemaError():
            what = "the tables are missing or older than this release; run `tmcp-serverless migrate`"
            return {"problem": "schema", "message": what}
        case StoreUnavailableError() | TimeoutError():
            what = "the database cannot be reached; the log says how, `tmcp-serverless doctor` finds out why"
            return {"problem": "database", "message": what}
        case ConfigurationError():
            # The rest of the message may have values in it, such as a file's path or the driver's words.
            found = _WRONG_SETTING.search(str(error))
            told = "a setting is wrong; the log says which"
            if found is not None:
                told = f"{found['setting']} {found['fault'] or 'is wrong'}; the log says more"
            what = f"{told}, `tmcp-serverless doctor` finds out why"
            return {"problem": "configuration", "message": what}
        case _:
            return {"problem": "unknown", "message": "the log says what is wrong"}
