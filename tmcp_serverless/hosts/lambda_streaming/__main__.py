"""`python -m tmcp_serverless.hosts.lambda_streaming`: the program that runs instead of AWS's own runtime."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

__all__ = ["main"]

logger = logging.getLogger("tmcp_serverless.hosts.lambda_streaming")


def main() -> int:
    """Import the handler, serve until the sandbox ends, and return the exit code."""
    _complete_path()
    # The kit's dependencies may be in another layer than the kit.
    from tmcp_serverless.hosts.event_loop import run
    from tmcp_serverless.hosts.lambda_streaming.loading import (
        InitializationError,
        load_handler,
    )
    from tmcp_serverless.hosts.lambda_streaming.logs import configure_logging
    from tmcp_serverless.hosts.lambda_streaming.runtime_api import RuntimeApi
    from tmcp_serverless.hosts.lambda_streaming.sandbox import Sandbox

    configure_logging()
    api = RuntimeApi(os.environ["AWS_LAMBDA_RUNTIME_API"])
    # The handler is imported outside of any event loop: its module may well call `asyncio.run`.
    try:
        handler = load_handler(os.environ["_HANDLER"])
    except InitializationError as error:
        logger.exception("the function cannot be initialized")
        fault = error.fault
        asyncio.run(api.fail_initialization(fault))
        return 1
    try:
        run(Sandbox(handler, api).run())
    except OSError:
        logger.exception("the sandbox ends")
        return 1
    return 0


def _complete_path() -> None:
    """Complete `sys.path` as AWS's runtime does: the function, its layers, AWS's own runtime."""
    function = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    layers = [f"/opt/python/lib/{version}/site-packages", "/opt/python"]
    runtime = os.environ.get("LAMBDA_RUNTIME_DIR", "/var/runtime")
    sys.path[:] = dict.fromkeys([function, *layers, *sys.path, runtime])


if __name__ == "__main__":
    sys.exit(main())
