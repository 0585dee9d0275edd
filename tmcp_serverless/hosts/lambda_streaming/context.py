"""What a handler is told about its invocation, under the names that AWS's own runtime gives it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tmcp_serverless.hosts.lambda_streaming.runtime_api import Invocation

__all__ = ["LambdaContext"]


class LambdaContext:
    """The context object of one invocation. `identity` and `client_context` are always `None`."""

    def __init__(self, invocation: Invocation) -> None:
        environment = os.environ.get
        self.aws_request_id = invocation.id
        self.invoked_function_arn = invocation.function_arn
        self.function_name = environment("AWS_LAMBDA_FUNCTION_NAME", "")
        self.function_version = environment("AWS_LAMBDA_FUNCTION_VERSION", "")
        self.memory_limit_in_mb = environment("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
        self.log_group_name = environment("AWS_LAMBDA_LOG_GROUP_NAME", "")
        self.log_stream_name = environment("AWS_LAMBDA_LOG_STREAM_NAME", "")
        self.identity = None
        self.client_context = None
        self._deadline = invocation.deadline

    def get_remaining_time_in_millis(self) -> int:
        """Return how long it is until the sandbox is killed."""
        return max(0, round((self._deadline - time.monotonic()) * 1000))
