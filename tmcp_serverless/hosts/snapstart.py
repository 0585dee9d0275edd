"""SnapStart: a Lambda function's sandboxes begin with a snapshot of a sandbox that was initialized before.

For handlers on AWS's own runtime with whole answers: that runtime calls the hooks. Two things must not be in
a snapshot. Future random numbers may not be the same in all of its copies, and connections do not survive the
time in between. (docs.aws.amazon.com/lambda: "Lambda SnapStart runtime hooks for Python")
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

    Returns `True` if the runtime has such hooks; elsewhere nothing happens. Call it at the end of the module
    that Lambda imports. Hooks run in the opposite order before a snapshot, so this one comes first, and a
    hook of yours may then close its leftovers.
    """
    try:
        import snapshot_restore_py as hooks  # noqa: PLC0415 - a part of AWS's runtime
    except ImportError:
        return False
    hooks.register_before_snapshot(before_snapshot, handler)
    hooks.register_after_restore(after_restore)
    return True


def before_snapshot(handler: Handler) -> None:
    """Import and build everything that the first request would have to wait for, and leave nothing open.

    Priming fails if the server's lifespan needs resources that are not there at a deployment. The version is
    published all the same: its first request waits a little longer.
    """
    try:
        import_module("tmcp_serverless.hosts.lambda_buffered")
        run_until_complete(sandbox_loop(), handler.prime())
    except Exception:
        logger.exception("the server could not be primed; its first request will do what was left")


def after_restore() -> None:
    """Seed `random` anew, so that each copy has random numbers of its own.

    `secrets`, `uuid4` and TLS ask the kernel, and AWS takes care of the kernel's numbers. The module `random`
    has a state that is in the snapshot. Logins and tokens are fetched for a connection, and none was made.
    """
    random.seed()
