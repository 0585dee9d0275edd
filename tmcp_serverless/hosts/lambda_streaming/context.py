"""The context object of an invocation, with the names that AWS's own runtime uses."""

from __future__ import annotations

import json
import os
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from tmcp_serverless.hosts.lambda_streaming.faults import Fault, FaultError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tmcp_serverless.hosts.lambda_streaming.runtime_api import Invocation

__all__ = ["LambdaContext"]

_CLIENT_CONTEXT = ("custom", "env", "client")
_CLIENT = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")
_W3C = ("traceparent", "tracestate", "baggage")
_SHOWN = (
    "aws_request_id",
    "log_group_name",
    "log_stream_name",
    "function_name",
    "memory_limit_in_mb",
    "function_version",
    "invoked_function_arn",
    "client_context",
    "identity",
    "tenant_id",
)


class LambdaContext:
    """The context object of one invocation.

    Raises:
        FaultError: The client context or the identity is no JSON.

    """

    def __init__(self, invocation: Invocation) -> None:
        environment = os.environ.get
        self.aws_request_id = invocation.id
        self.invoked_function_arn = invocation.function_arn
        self.function_name = environment("AWS_LAMBDA_FUNCTION_NAME")
        self.function_version = environment("AWS_LAMBDA_FUNCTION_VERSION")
        self.memory_limit_in_mb = environment("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.log_group_name = environment("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = environment("AWS_LAMBDA_LOG_STREAM_NAME")
        self.tenant_id = invocation.tenant_id or None
        client_context = _parsed(invocation.client_context, "Client Context")
        trace = client_context.pop("w3c", None) if isinstance(client_context, dict) else None
        self._w3c = {name: value for name, value in _object(trace).items() if _is_w3c(name, value)}
        self.client_context = _record(client_context, _CLIENT_CONTEXT)
        if self.client_context is not None:
            self.client_context.client = _record(self.client_context.client, _CLIENT)
        identity = _object(_parsed(invocation.cognito_identity, "Cognito Identity"))
        self.identity = SimpleNamespace(
            cognito_identity_id=identity.get("cognitoIdentityId"),
            cognito_identity_pool_id=identity.get("cognitoIdentityPoolId"),
        )
        self._deadline = invocation.deadline

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the sandbox is killed."""
        return max(0, round((self._deadline - time.monotonic()) * 1000))

    def w3c(self) -> dict[str, str]:
        """Return the W3C trace context of the invocation."""
        return dict(self._w3c)

    def log(self, text: object) -> None:
        """Write to the function's log, unchanged."""
        sys.stdout.write(str(text))

    def __repr__(self) -> str:
        fields = ",".join(f"{name}={getattr(self, name)}" for name in _SHOWN)
        return f"{type(self).__name__}([{fields}])"


def _parsed(header: str, name: str) -> Any:
    if not header:
        return None
    try:
        return json.loads(header)
    except ValueError as error:
        message = f"Unable to parse {name} JSON: {error}"
        raise FaultError(Fault("Runtime.LambdaContextUnmarshalError", message)) from error


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _record(value: Any, names: Sequence[str]) -> SimpleNamespace | None:
    """Return an object with these attributes; an attribute is `None` if the value does not have it."""
    if value is None:
        return None
    return SimpleNamespace(**{name: _object(value).get(name) for name in names})


def _is_w3c(name: str, value: object) -> bool:
    return name in _W3C and isinstance(value, str)
