"""Answers to requests that could not be served, or not to their end. The log has the reason."""

from __future__ import annotations

from tmcp_serverless.errors import ConfigurationError, TmcpError
from tmcp_serverless.transports.asgi import INTERNAL_ERROR, HttpProblem

__all__ = ["STOPPED", "refusal_of"]

STOPPED = "The instance that ran this request was stopped; call again"
"""Error message of a request when its host is stopping."""

_UNAVAILABLE = HttpProblem(
    503,
    "The session store cannot be reached; try again",
    code=INTERNAL_ERROR,
    headers=[(b"retry-after", b"1")],
)
_NOT_READY = HttpProblem(
    503,
    "The server is not configured rightly; its log says what to change",
    code=INTERNAL_ERROR,
    headers=[(b"retry-after", b"5")],
)


def refusal_of(error: TmcpError) -> HttpProblem:
    """Return the answer to a request that failed with this error."""
    return _NOT_READY if isinstance(error, ConfigurationError) else _UNAVAILABLE
