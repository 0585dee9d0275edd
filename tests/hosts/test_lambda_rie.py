"""Against AWS's own emulator of the Runtime API: framing, errors, timeouts and kills, buffered and streaming.

It takes streamed answers, but delivers them whole; what arrives when is seen with our emulator.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from local.sam import UnavailableError, rie
from tests.cli.support import lines, until
from tests.hosts.recorded import SCHEDULE, function_url, rest_api

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

ROOT = Path(__file__).parents[2]
STREAMING = [
    str(ROOT / "tmcp_serverless/hosts/lambda-streaming"),
    sys.executable,
    "/var/runtime/bootstrap.py",
]
BUFFERED = [sys.executable, "-m", "awslambdaric"]
LIMIT_SECONDS = 120.0
DEADLINE_SECONDS = 4
"""The deadline of a function that a test lets pass. The emulator counts a sandbox's start as well."""

INVOKE = "/2015-03-31/functions/function/invocations"


def frame(response: httpx.Response) -> tuple[dict[str, Any], bytes]:
    """Return the head and the body of a streamed answer."""
    head, delimiter, body = response.content.partition(bytes(8))
    assert delimiter, head
    return json.loads(head), body


def status(response: httpx.Response) -> int:
    return frame(response)[0]["statusCode"]


class Emulator:
    def __init__(self, port: int, trace: Path, output: Path) -> None:
        self._url = f"http://127.0.0.1:{port}{INVOKE}"
        self._trace = trace
        self._output = output

    def invoke(self, event: Any) -> httpx.Response:
        return httpx.post(self._url, json=event, timeout=LIMIT_SECONDS)

    def framed(self, event: Any) -> tuple[dict[str, Any], bytes]:
        return frame(self.invoke(event))

    @property
    def noted(self) -> list[str]:
        return lines(self._trace)

    @property
    def sandboxes(self) -> int:
        """The number of sandboxes that were started."""
        return self.output.count("INIT START")

    @property
    def output(self) -> str:
        return self._output.read_text()


@pytest.fixture(scope="session")
def binary() -> Path:
    try:
        return rie()
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def new_emulator(binary: Path, tmp_path: Path) -> Callable[..., Any]:
    @contextmanager
    def new(
        handler: str, *, command: list[str] = STREAMING, seconds: int = 60, **env: str
    ) -> Generator[Emulator]:
        ports = _free_ports(2)
        trace, output = tmp_path / "trace", tmp_path / "output"
        addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{ports[0]}"]
        addresses += ["--runtime-api-address", f"127.0.0.1:{ports[1]}"]
        arguments = command if command is STREAMING else [*command, handler]
        with output.open("wb") as file:
            process = subprocess.Popen(
                [str(binary), *addresses, *arguments],
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "AWS_LAMBDA_FUNCTION_TIMEOUT": str(seconds),
                    "AWS_LAMBDA_FUNCTION_NAME": "function",
                    "LAMBDA_TASK_ROOT": str(ROOT),
                    "PYTHONPATH": str(ROOT),
                    "TRACE": str(trace),
                    "_HANDLER": handler,
                    **env,
                },
            )
        try:
            until(lambda: _listens(ports[0]))
            yield Emulator(ports[0], trace, output)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    return new


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


APP = "tests.hosts.lambda_app.handler"
TIMED_OUT = f"Task timed out after {DEADLINE_SECONDS}.00 seconds"


def served(emulator: Emulator, event: Any) -> httpx.Response:
    """Invoke until a sandbox serves.

    After a kill the emulator answers with nothing while it replaces the process, and with a timeout where the
    next one took longer than the deadline to start.
    """

    def answer() -> httpx.Response | None:
        response = emulator.invoke(event)
        return response if response.content and TIMED_OUT not in response.text else None

    return until(answer, limit_seconds=LIMIT_SECONDS)


def test_streamed_answers_have_their_frame(new_emulator: Callable[..., Any]) -> None:
    with new_emulator(APP) as emulator:
        for event in (function_url(body="hello", path="/echo"), rest_api(body="hello", path="/echo")):
            head, body = emulator.framed(event)
            assert head["statusCode"] == 201
            assert head["headers"]["content-type"] == "text/plain"
            assert head["headers"]["x-trace"] == "", "invocations are not traced there"
            assert head["cookies"] == ["one=1; Path=/", "two=2"]
            assert body == b"hello"
        assert emulator.framed(function_url(path="/empty")) == (
            {"statusCode": 202, "headers": {}, "cookies": []},
            b"",
        )
        assert len(emulator.framed(function_url(path="/large", body="5"))[1]) == 5 * 1_048_576


def test_errors_are_answered_and_nothing_dies(new_emulator: Callable[..., Any]) -> None:
    with new_emulator(APP) as emulator:
        assert emulator.framed(function_url(path="/early"))[0]["statusCode"] == 500
        assert emulator.framed(function_url(path="/late"))[1] == b"one\n"
        failed = emulator.invoke({"raise": True}).json()
        assert (failed["errorType"], failed["errorMessage"]) == ("ValueError", "so it was asked")
        assert emulator.invoke(SCHEDULE).json()["event"] == SCHEDULE
        assert emulator.framed(function_url(path="/too-late"))[1] == b"whole"
        assert emulator.sandboxes == 1, "it was one sandbox"


def test_whatever_a_function_raises_is_answered_once(new_emulator: Callable[..., Any]) -> None:
    with new_emulator(APP) as emulator:
        assert emulator.invoke({"cancelled": True}).json()["errorType"] == "CancelledError"
        assert emulator.framed(function_url(path="/cancelled"))[0]["statusCode"] == 500
        assert emulator.framed(function_url(path="/cancelled-late"))[1] == b"one\n"
        assert emulator.noted == ["cancelled"] * 3
        assert emulator.framed(function_url(path="/deep", body="x" * 100_000))[1] == b"one\n"
        assert emulator.invoke({"named": "Überlauf\n"}).json()["errorType"] == "Überlauf\n"
        assert emulator.framed(function_url(path="/text-headers"))[0]["statusCode"] == 500
        assert emulator.framed(function_url(path="/empty", headers={"host": "a:b"}))[0]["statusCode"] == 202
        assert emulator.sandboxes == 1, "it was one sandbox"


def test_a_process_that_cannot_answer_does_not_ask_for_the_same_invocation_again(
    new_emulator: Callable[..., Any],
) -> None:
    with new_emulator(APP) as emulator:
        ended = emulator.invoke({"cancels itself": True}).json()
        assert ended["errorType"] == "Runtime.ExitError"
        assert status(served(emulator, function_url(path="/empty"))) == 202


def test_an_answer_that_is_refused_is_no_end(new_emulator: Callable[..., Any]) -> None:
    with new_emulator(APP) as emulator:
        # AWS's emulator takes 6 MB, streamed or not.
        refused = emulator.invoke(function_url(path="/large", body="7")).json()
        assert refused["errorType"] == "Function.ResponseSizeTooLarge"
        assert emulator.framed(function_url(path="/empty"))[0]["statusCode"] == 202
        assert emulator.sandboxes == 1
        assert "an answer did not arrive: the Runtime API answered 413" in emulator.output


def test_a_request_is_cancelled_before_the_deadline_and_the_sandbox_stays(
    new_emulator: Callable[..., Any],
) -> None:
    with new_emulator(APP, seconds=DEADLINE_SECONDS) as emulator:
        assert status(served(emulator, function_url(path="/empty"))) == 202
        sandboxes = emulator.sandboxes
        assert emulator.framed(function_url(path="/hang"))[1] == b"one\n"
        assert emulator.noted == ["cancelled"]
        assert emulator.framed(function_url(path="/silent"))[0]["statusCode"] == 504
        assert emulator.framed(function_url(path="/empty"))[0]["statusCode"] == 202
        assert emulator.sandboxes == sandboxes


def test_what_cannot_be_cancelled_is_killed_and_the_next_sandbox_serves(
    new_emulator: Callable[..., Any],
) -> None:
    with new_emulator(APP, seconds=DEADLINE_SECONDS) as emulator:
        assert TIMED_OUT in emulator.invoke(function_url(path="/block")).text
        assert status(served(emulator, function_url(path="/empty"))) == 202
        assert emulator.sandboxes >= 2


def test_a_process_that_ends_is_replaced(new_emulator: Callable[..., Any]) -> None:
    with new_emulator(APP) as emulator:
        assert emulator.invoke(function_url(path="/crash")).json()["errorType"] == "Runtime.ExitError"
        assert status(served(emulator, function_url(path="/empty"))) == 202


def test_sigterm_is_sent_and_everything_is_closed(new_emulator: Callable[..., Any]) -> None:
    with new_emulator(APP) as emulator:
        assert emulator.framed(function_url(path="/empty"))[0]["statusCode"] == 202
        assert "registered, subscribed to []" in emulator.output
    assert emulator.noted == ["close"]


@pytest.mark.parametrize(
    ("handler", "type"),
    [
        ("no_such_module.handler", "Runtime.ImportModuleError"),
        ("tests.hosts.lambda_app.nothing", "Runtime.HandlerNotFound"),
    ],
)
def test_what_cannot_be_initialized_says_why(
    new_emulator: Callable[..., Any], handler: str, type: str
) -> None:
    with new_emulator(handler) as emulator:
        assert emulator.invoke(function_url()).json()["errorType"] == type
        assert type in emulator.output


def test_logs_are_in_the_format_that_the_function_asks_for(new_emulator: Callable[..., Any]) -> None:
    with new_emulator(APP, AWS_LAMBDA_LOG_FORMAT="JSON") as emulator:
        emulator.invoke(function_url(path="/early"))
        line = next(json.loads(line) for line in emulator.output.splitlines() if line.startswith('{"time'))
        assert (line["level"], line["errorType"]) == ("ERROR", "ValueError")
        assert line["requestId"] in emulator.output.replace(json.dumps(line), "")


MCP = "tests.hosts.lambda_mcp.handler"
HELLO = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "c", "version": "1"},
    },
}


@pytest.mark.parametrize("command", [STREAMING, BUFFERED], ids=["streaming", "buffered"])
def test_the_same_handler_serves_sessions_and_events_either_way(
    new_emulator: Callable[..., Any], command: list[str], database_url: str
) -> None:
    if command is BUFFERED:
        pytest.importorskip("awslambdaric", reason="AWS's runtime for Python is installed on Linux only")
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}

    def post(message: Any) -> dict[str, Any]:
        response = emulator.invoke(function_url("POST", headers, json.dumps(message)))
        head, _, body = response.content.partition(bytes(8))
        answer = json.loads(head)
        assert answer["statusCode"] == 200, answer
        if "mcp-session-id" in answer["headers"]:
            headers["mcp-session-id"] = answer["headers"]["mcp-session-id"]
        return json.loads(body or answer["body"])["result"]

    with new_emulator(MCP, command=command, TMCP_DATABASE_URL=database_url) as emulator:
        post(HELLO)
        for number in range(3):
            call = {"name": "add", "arguments": {"a": number, "b": 1}}
            result = post({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": call})
            assert result["content"][0]["text"] == str(number + 1)
            assert emulator.invoke(SCHEDULE).json() == {"swept": "aws.events", "name": "function"}
        assert emulator.invoke({"no": "schedule"}).json() is None


def test_under_awss_own_runtime_a_request_is_answered_before_its_deadline(
    new_emulator: Callable[..., Any],
) -> None:
    pytest.importorskip("awslambdaric", reason="AWS's runtime for Python is installed on Linux only")
    with new_emulator(
        "tests.hosts.lambda_app.buffered_handler", command=BUFFERED, seconds=DEADLINE_SECONDS
    ) as emulator:
        assert served(emulator, function_url(path="/empty")).json()["statusCode"] == 202
        sandboxes = emulator.sandboxes
        for event in (function_url(path="/silent"), rest_api(path="/silent")):
            assert emulator.invoke(event).json()["statusCode"] == 504
        assert emulator.invoke(function_url(path="/empty")).json()["statusCode"] == 202
        assert emulator.sandboxes == sandboxes, "it was the same one"


def test_an_event_that_blocks_is_killed_at_its_deadline_under_awss_own_runtime(
    new_emulator: Callable[..., Any],
) -> None:
    pytest.importorskip("awslambdaric", reason="AWS's runtime for Python is installed on Linux only")
    app = "tests.hosts.lambda_app.buffered_handler"
    with new_emulator(app, command=BUFFERED, seconds=DEADLINE_SECONDS) as emulator:
        assert TIMED_OUT in emulator.invoke({"block": True}).text
        answer = served(emulator, SCHEDULE).json()
        assert answer["event"] == SCHEDULE
