"""The Runtime API and the Extensions API, as far as a runtime uses them.

(docs.aws.amazon.com/lambda: "Using the Lambda runtime API for custom runtimes", "Using the Lambda Extensions
API"; the streaming answer is in "Response streaming", and otherwise as in AWS's own runtimes)
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from tmcp_serverless.hosts.lambda_streaming.wire import Connection

if TYPE_CHECKING:
    from tmcp_serverless.hosts.lambda_streaming.faults import Fault
    from tmcp_serverless.hosts.lambda_streaming.wire import Answer

__all__ = ["Invocation", "RuntimeApi", "RuntimeApiError", "StreamedBody"]

StreamedBody: TypeAlias = Connection
"""A request that carries the answer of an invocation in its body: `write` it, then `finish` it."""

_RUNTIME = "/2018-06-01/runtime"
_EXTENSION = "/2020-01-01/extension"
_EXTENSION_NAME = "tmcp-serverless-shutdown"

_OK, _ACCEPTED = 200, 202

_STREAMED = [
    ("Content-Type", "application/vnd.awslambda.http-integration-response"),
    ("Lambda-Runtime-Function-Response-Mode", "streaming"),
    ("Transfer-Encoding", "chunked"),
    ("Trailer", "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body"),
]


class RuntimeApiError(OSError):
    """The Runtime API refuses a request; the message has its words."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One event to be answered."""

    id: str
    event: bytes
    """JSON."""

    deadline: float
    """Time at which the sandbox is killed, by `time.monotonic()`."""

    trace_id: str
    """Empty if the invocation is not traced."""

    function_arn: str
    client_context: str = ""
    """JSON, as are the next; empty if there is none."""

    cognito_identity: str = ""
    tenant_id: str = ""

    @classmethod
    def of(cls, answer: Answer) -> Invocation:
        """Read the answer of `next`."""
        headers = answer.headers
        seconds_left = int(headers["lambda-runtime-deadline-ms"]) / 1000 - time.time()
        return cls(
            id=headers["lambda-runtime-aws-request-id"],
            event=answer.body,
            deadline=time.monotonic() + seconds_left,
            trace_id=headers.get("lambda-runtime-trace-id", ""),
            function_arn=headers.get("lambda-runtime-invoked-function-arn", ""),
            client_context=headers.get("lambda-runtime-client-context", ""),
            cognito_identity=headers.get("lambda-runtime-cognito-identity", ""),
            tenant_id=headers.get("lambda-runtime-aws-tenant-id", ""),
        )


class RuntimeApi:
    """The Runtime API of one sandbox, over one connection that is kept, and one for waiting as an extension.

    Every method raises `OSError` if the API cannot be reached, `RuntimeApiError` if it refuses.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: Connection | None = None

    async def next(self) -> Invocation:
        """Wait for the next invocation. The sandbox is frozen until there is one."""
        path = f"{_RUNTIME}/invocation/next"
        try:
            answer = await (await self._connected()).request("GET", path)
        except ConnectionError:
            # The other side may have closed a kept connection before it saw the request.
            self.close()
            answer = await (await self._connected()).request("GET", path)
        return Invocation.of(_checked(answer, _OK))

    async def stream(self, id: str) -> StreamedBody:
        """Begin the answer to an invocation that is delivered as it is written."""
        connection = await self._connected()
        connection.begin("POST", f"{_RUNTIME}/invocation/{id}/response", _STREAMED)
        return connection

    async def succeed(self, id: str, result: bytes, content_type: str = "application/json") -> None:
        """Answer an invocation, whole."""
        await self._post(f"{_RUNTIME}/invocation/{id}/response", result, [], content_type)

    async def fail(self, id: str, fault: Fault) -> None:
        """Report that an invocation has failed, before anything of its answer was sent."""
        await self._post_fault(f"{_RUNTIME}/invocation/{id}/error", fault, id)

    async def fail_initialization(self, fault: Fault) -> None:
        """Report that the initialization has failed; the process has to end."""
        await self._post_fault(f"{_RUNTIME}/init/error", fault)

    async def register_extension(self) -> str:
        """Register the process as an extension without events, and return the extension's id.

        That is enough for SIGTERM to be sent before the sandbox is ended; AWS's runtime for Rust does the
        same (lambda_runtime, `spawn_graceful_shutdown_handler`).
        """
        headers = [("Lambda-Extension-Name", _EXTENSION_NAME), ("Content-Type", "application/json")]
        connection = await self._connected()
        answer = await connection.request("POST", f"{_EXTENSION}/register", headers, b'{"events":[]}')
        return _checked(answer, _OK).headers["lambda-extension-identifier"]

    async def wait_as_extension(self, id: str) -> None:
        """Wait for an extension's event. None comes, but a sandbox is ready only after this request."""
        connection = await Connection.open(self._address)
        try:
            headers = [("Lambda-Extension-Identifier", id)]
            _checked(await connection.request("GET", f"{_EXTENSION}/event/next", headers), _OK)
        finally:
            connection.close()

    def close(self) -> None:
        """Close the kept connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _connected(self) -> Connection:
        if self._connection is None or not self._connection.usable:
            self.close()
            self._connection = await Connection.open(self._address)
        return self._connection

    async def _post_fault(self, path: str, fault: Fault, id: str = "") -> None:
        headers = [("Lambda-Runtime-Function-Error-Type", fault.header)]
        if fault.xray_cause:
            headers.append(("Lambda-Runtime-Function-XRay-Error-Cause", fault.xray_cause))
        await self._post(path, fault.as_json(id), headers)

    async def _post(
        self,
        path: str,
        body: bytes,
        headers: list[tuple[str, str]],
        content_type: str = "application/json",
    ) -> None:
        headers = [("Content-Type", content_type), *headers]
        _checked(await (await self._connected()).request("POST", path, headers, body), _ACCEPTED)


def _checked(answer: Answer, status: int) -> Answer:
    if answer.status != status:
        words = answer.body[:200].decode(errors="replace")
        raise RuntimeApiError(f"the Runtime API answered {answer.status}: {words}")
    return answer
