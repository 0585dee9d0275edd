"""Parts of all log lines: the level, the invocation, the instance's name, paths without line breaks."""

from __future__ import annotations

import logging
import os
import socket
from contextvars import ContextVar
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from tmcp_serverless.http import Scope

__all__ = ["INVOCATION_ID", "TENANT_ID", "instance_name", "level_from", "loggable_path"]

INVOCATION_ID: ContextVar[str] = ContextVar("tmcp_invocation_id", default="")
"""The Lambda invocation that a record belongs to, if our own loop runs it."""

TENANT_ID: ContextVar[str] = ContextVar("tmcp_tenant_id", default="")
"""The tenant of that invocation, if the function isolates tenants."""

_OTHER_NAMES = {"TRACE": "DEBUG"}
"""Lambda's names of levels that `logging` does not have."""


def level_from(*variables: str) -> str | None:
    """Return the log level that the first of some environment variables names; `None` if none does.

    Case does not matter, and an unknown level is skipped: a typing error is no reason not to serve.
    """
    for variable in variables:
        level = os.environ.get(variable, "").strip().upper()
        level = _OTHER_NAMES.get(level, level)
        if level in logging.getLevelNamesMapping():
            return level
    return None


def loggable_path(scope: Scope) -> str:
    """Return a request's path as it was sent: `path` is decoded, and may have line breaks in it."""
    return quote(scope["path"], safe="/!$&'()*+,;=:@~", errors="replace")


def instance_name() -> str:
    """Return the process's name for an operator. It has no spaces.

    It is Lambda's log stream; elsewhere the revision (Cloud Run), the host and the process id.
    """
    if stream := os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME"):
        return stream.replace(" ", "")
    revision = os.environ.get("K_REVISION", "")
    return f"{revision}{'@' if revision else ''}{socket.gethostname()}:{os.getpid()}".replace(" ", "")
