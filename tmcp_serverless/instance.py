"""The instance's name, for an operator to find this process."""

from __future__ import annotations

import os
import socket

__all__ = ["instance_name"]


def instance_name() -> str:
    """Return Lambda's log stream, or the revision (Cloud Run), host and process id. No spaces in it."""
    if stream := os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME"):
        return stream.replace(" ", "")
    revision = os.environ.get("K_REVISION", "")
    return f"{revision}{'@' if revision else ''}{socket.gethostname()}:{os.getpid()}".replace(" ", "")
