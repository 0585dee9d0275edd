"""SnapStart: a Lambda function whose sandboxes begin with a snapshot of one that was initialized before.

For handlers on AWS's own runtime, which answer whole; it is that runtime that calls the hooks. A snapshot
must not hold what may not be the same in all of its copies, which is random numbers to come, nor what does
not survive the time in between, which is connections.
(docs.aws.amazon.com/lambda: "Lambda SnapStart runtime hooks for Python")
"""

from __future__ import annotations

import logging
import random
from importlib import import_module
from typing import TYPE_CHECKING

from tmcp_serverless.hosts.event_loop import run_until_complete, sandbox_loop

if TYPE_CHECKING:
    from tmcp_serverless.handler import Handler

__all__ = ["after_restore", "before_snapshot", "register"]

logger = logging.getLogger(__name__)


def register(handler: Handler) -> bool:
    """Prime the handler before a snapshot; reseed `random` after each restore.

    Returns whether the runtime has such hooks; elsewhere nothing happens. Call it at the end of the module
    that Lambda imports: hooks run in the opposite order before a snapshot, so this one comes first, and one
    of yours may close what it left.
    """
    try:
        import snapshot_restore_py as hooks  # noqa: PLC0415 - a part of AWS's runtime
    except ImportError:
        return False
    hooks.register_before_snapshot(before_snapshot, handler)
    hooks.register_after_restore(after_restore)
    return True


def before_snapshot(handler: Handler) -> None:
    """Import and build what the first request would have to wait for, and leave nothing open.

    A server that cannot be primed, for its lifespan needs what is not there at a deployment, does not keep
    the version from being published: its first request waits a little longer.
    """
    try:
        import_module("tmcp_serverless.hosts.lambda_buffered")
        run_until_complete(sandbox_loop(), handler.prime())
    except Exception:
        logger.exception("the server could not be primed; its first request will do what was left")


def after_restore() -> None:
    """Begin with random numbers of one's own.

    `secrets`, `uuid4` and TLS ask the kernel, whose numbers AWS sees to; the module `random` has a state
    that is in the snapshot. Logins and tokens are fetched for a connection, and none was made.
    """
    random.seed()
