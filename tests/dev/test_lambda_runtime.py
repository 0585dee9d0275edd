"""The emulator's side of the Runtime API, with runtimes that are not ours."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.support import lines
from tmcp_serverless.dev.lambda_emulator import Function, LambdaEmulator

if TYPE_CHECKING:
    from pathlib import Path

    from tmcp_serverless.dev.lambda_emulator.invocation import Invocation

pytestmark = pytest.mark.anyio

FORGETFUL = """\
#!{python}
import http.client, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = api.getresponse()
    answer.read()
    with open(os.environ["TRACE"], "a") as file:
        print(answer.getheader("Lambda-Runtime-Aws-Request-Id"), file=file)
"""

LENGTHY = """\
#!{python}
import os, socket
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
while True:
    with socket.create_connection((host, int(port))) as api:
        file = api.makefile("rwb")
        file.write(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        file.flush()
        head = dict(line.rstrip().split(b": ", 1) for line in iter(file.readline, b"\\r\\n") if b": " in line)
        size = int(file.read(int(head[b"Content-Length"])))
        file.write(b"POST /2018-06-01/runtime/invocation/" + head[b"Lambda-Runtime-Aws-Request-Id"])
        file.write(b"/response HTTP/1.1\\r\\nHost: x\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n")
        file.write(b"Lambda-Runtime-Function-Error-Type: " + b"x" * size + b"\\r\\n\\r\\n")
        file.flush()
        file.readline()
"""


async def with_runtime(code: str, folder: Path, events: list[bytes]) -> list[Invocation]:
    """Have events answered by a runtime that is not ours."""
    wrapper = folder / "wrapper"
    wrapper.write_text(code.format(python=sys.executable))
    wrapper.chmod(0o755)
    environment = {"TRACE": str(folder / "trace")}
    function = Function("app.handler", folder, environment=environment, exec_wrapper="/var/task/wrapper")
    async with LambdaEmulator(function) as emulator:
        invocations = [await emulator.invoke(event) for event in events]
        for each in invocations:
            await each.whole()
    return invocations


async def test_an_invocation_without_an_answer_comes_again_but_not_for_ever(tmp_path: Path) -> None:
    [invocation] = await with_runtime(FORGETFUL, tmp_path, [b"{}"])
    assert lines(tmp_path / "trace") == [invocation.id] * 21
    assert invocation.failure is not None
    assert invocation.failure.type == "Runtime.NoAnswer"


async def test_trailers_that_lambda_could_not_read_are_refused(tmp_path: Path) -> None:
    fit, do_not = await with_runtime(LENGTHY, tmp_path, [b"4000", b"4096"])
    assert fit.failure is not None
    assert fit.failure.type == "x" * 4_000
    assert do_not.failure is not None
    assert do_not.failure.type == "Runtime.TruncatedResponse"
