"""Lambda with answers delivered whole: recorded events of each front door in, whole responses out."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from mcp.server import MCPServer

from tests.hosts.recorded import (
    FRONT_DOORS,
    HEADERS,
    PLAIN,
    SCHEDULE,
    UNKNOWN,
    function_url,
    http_api,
    http_api_1,
    rest_api,
)
from tests.support.servers import small_server
from tmcp_serverless import ConfigurationError, Handler, TmcpError, create_handler
from tmcp_serverless.exits import ExitError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

pytest.importorskip("mangum", reason="the extra `aws` is not installed")


class LambdaContext:
    def __init__(self, seconds: float = 30) -> None:
        self._ends = time.monotonic() + seconds
        self.aws_request_id = "8f5b1c9e"
        self.function_name = "mcp"

    def get_remaining_time_in_millis(self) -> int:
        return int(max(0.0, self._ends - time.monotonic()) * 1000)


class Caller:
    """Invokes a handler as Lambda does: synchronously, one event at a time."""

    def __init__(self, handler: Handler, event: Callable[..., dict[str, Any]]) -> None:
        self._handler = handler
        self._event = event
        self.session: str | None = None
        self.timeout = 30.0

    def invoke(self, method: str, message: Any = None, **headers: str) -> dict[str, Any]:
        own = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.session is not None:
            own["mcp-session-id"] = self.session
        body = "" if message is None else json.dumps(message)
        return self._handler(self._event(method, own, body), LambdaContext(self.timeout))

    def initialize(self) -> None:
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "c", "version": "1"},
        }
        answer = self.invoke("POST", {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        assert answer["statusCode"] == 200, answer
        headers = answer.get("headers") or {
            name: values[0] for name, values in answer["multiValueHeaders"].items()
        }
        self.session = {name.lower(): value for name, value in headers.items()}["mcp-session-id"]

    def add(self, a: int, b: int) -> str:
        params = {"name": "add", "arguments": {"a": a, "b": b}}
        answer = self.invoke("POST", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        assert answer["statusCode"] == 200, answer
        return json.loads(answer["body"])["result"]["content"][0]["text"]


@pytest.fixture
def new_sandbox(
    database_url: str, sandbox_loop: asyncio.AbstractEventLoop
) -> Generator[Callable[..., Handler]]:
    made: list[Handler] = []

    def new(**options: Any) -> Handler:
        made.append(create_handler(small_server(), database_url=database_url, **options))
        return made[-1]

    yield new
    for handler in made:
        sandbox_loop.run_until_complete(handler.aclose())


@pytest.mark.parametrize("event", FRONT_DOORS)
def test_a_session_lives_through_invocations_behind_each_front_door(
    new_sandbox: Callable[..., Handler], event: Callable[..., dict[str, Any]]
) -> None:
    caller = Caller(new_sandbox(), event)
    caller.initialize()
    accepted = caller.invoke("POST", {"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (accepted["statusCode"], accepted.get("body", "")) == (202, "")
    assert caller.add(1, 2) == "3"
    assert caller.invoke("DELETE")["statusCode"] == 200
    assert caller.invoke("POST", {"jsonrpc": "2.0", "id": 2, "method": "ping"})["statusCode"] == 404


def test_a_request_that_talks_is_answered_with_a_whole_event_stream(
    new_sandbox: Callable[..., Handler],
) -> None:
    caller = Caller(new_sandbox(), function_url)
    caller.initialize()
    params = {"name": "talk", "arguments": {}, "_meta": {"progressToken": 7}}
    answer = caller.invoke("POST", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    assert answer["headers"]["content-type"] == "text/event-stream"
    messages = [json.loads(line[6:]) for line in answer["body"].splitlines() if line.startswith("data: ")]
    assert [message.get("method") for message in messages] == [
        "notifications/progress",
        "notifications/message",
        None,
    ]
    assert messages[-1]["id"] == 1


def base_path_of_rest(event: dict[str, Any]) -> None:
    event |= {"path": "/notes/healthz", "pathParameters": {"proxy": "healthz"}}
    event["requestContext"]["path"] = "/notes/healthz"


def named_stage(event: dict[str, Any]) -> None:
    event["rawPath"] = event["requestContext"]["http"]["path"] = "/dev/healthz"
    event["requestContext"]["stage"] = "dev"


def named_stage_in_format_1(event: dict[str, Any]) -> None:
    event["path"] = event["requestContext"]["path"] = "/dev/healthz"
    event["requestContext"]["stage"] = "dev"


@pytest.mark.parametrize(
    ("event", "change"),
    [(rest_api, base_path_of_rest), (http_api, named_stage), (http_api_1, named_stage_in_format_1)],
)
def test_stages_and_base_paths_are_outside_of_the_application(
    new_sandbox: Callable[..., Handler],
    event: Callable[..., dict[str, Any]],
    change: Callable[[dict[str, Any]], None],
) -> None:
    request = event("GET", path="/healthz")
    change(request)
    assert new_sandbox()(request, LambdaContext())["statusCode"] == 200


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mangum", None)
    monkeypatch.delitem(sys.modules, "tmcp_serverless.hosts.lambda_buffered", raising=False)
    with pytest.raises(ConfigurationError, match=r"pip install 'tmcp-serverless\[aws\]'"):
        create_handler(small_server())(function_url(), LambdaContext())


@pytest.mark.parametrize("host", ["a:b", "[x", "a:1:2", "a:"])
@pytest.mark.parametrize("event", FRONT_DOORS)
def test_a_host_without_a_port_that_can_be_read_is_none(
    new_sandbox: Callable[..., Handler], event: Callable[..., dict[str, Any]], host: str
) -> None:
    handler = new_sandbox()
    headers = {"host": host, "x-forwarded-port": "443, 443"}
    assert handler(event("GET", headers, path="/healthz"), LambdaContext())["statusCode"] == 200


@pytest.mark.parametrize("event", FRONT_DOORS)
def test_what_is_null_in_an_event_is_not_there(
    new_sandbox: Callable[..., Handler], event: Callable[..., dict[str, Any]]
) -> None:
    handler = new_sandbox()
    request = {**event("GET", {"accept": "x"}, path="/healthz"), "headers": {"accept": None}}
    if "requestContext" in request:
        request["requestContext"]["identity"] = None
    for null in (request, {**request, "headers": None, "multiValueHeaders": None}):
        assert handler(null, LambdaContext())["statusCode"] == 200


def test_a_request_that_cannot_be_read_is_a_400(new_sandbox: Callable[..., Handler]) -> None:
    handler = new_sandbox()
    for wrong in (
        function_url("GET", {"x": "\ud800"}),
        {**function_url(body="a"), "isBase64Encoded": True},
        {**function_url(), "body": {"no": "text"}},
    ):
        assert handler(wrong, LambdaContext())["statusCode"] == 400


def test_a_task_that_others_cancelled_is_the_functions_error(new_sandbox: Callable[..., Handler]) -> None:
    handler = new_sandbox()

    async def on_event(*_: Any) -> None:
        raise asyncio.CancelledError

    handler.on_event(on_event)
    with pytest.raises(RuntimeError, match="was cancelled"):
        handler(SCHEDULE, LambdaContext())


def test_row_31_a_thousand_invocations_in_one_sandbox(new_sandbox: Callable[..., Handler]) -> None:
    caller = Caller(new_sandbox(), function_url)
    caller.initialize()
    for number in range(1_000):
        assert caller.add(number, 1) == str(number + 1)


def test_the_first_invocation_after_all_connections_were_cut_works(
    new_sandbox: Callable[..., Handler], database_url: str
) -> None:
    caller = Caller(new_sandbox(), function_url)
    caller.initialize()
    for _ in range(3):
        asyncio.get_event_loop().run_until_complete(_cut_all_connections(database_url))
        assert caller.add(1, 2) == "3"


async def _cut_all_connections(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        cut = await connection.fetch(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert cut
    finally:
        await connection.close()


def test_row_32_a_get_is_answered_with_what_there_is_and_a_hint_to_come_back(
    new_sandbox: Callable[..., Handler], sandbox_loop: asyncio.AbstractEventLoop
) -> None:
    handler = new_sandbox(buffered_wait_seconds=5)
    caller = Caller(handler, function_url)
    caller.initialize()
    sandbox_loop.run_until_complete(handler.notifier.tools_changed())
    started = time.monotonic()
    answer = caller.invoke("GET")
    assert time.monotonic() - started < 4, "it waits for the first events only"
    assert answer["headers"]["content-type"] == "text/event-stream"
    assert "notifications/tools/list_changed" in answer["body"]
    assert "retry: " in answer["body"]


def test_row_32_a_get_without_events_ends_by_itself(new_sandbox: Callable[..., Handler]) -> None:
    caller = Caller(new_sandbox(buffered_wait_seconds=0.3), function_url)
    caller.initialize()
    answer = caller.invoke("GET")
    assert answer["statusCode"] == 200
    assert "data: {" not in answer["body"]
    assert "retry: " in answer["body"]


def test_row_32_a_get_ends_before_the_invocation_is_killed(new_sandbox: Callable[..., Handler]) -> None:
    caller = Caller(new_sandbox(buffered_wait_seconds=60), function_url)
    caller.initialize()
    caller.timeout = 2.5
    started = time.monotonic()
    assert caller.invoke("GET")["statusCode"] == 200
    assert time.monotonic() - started < 2.5


def test_row_32_a_get_can_be_refused(new_sandbox: Callable[..., Handler]) -> None:
    caller = Caller(new_sandbox(buffered_wait_seconds=0), function_url)
    caller.initialize()
    assert caller.invoke("GET")["statusCode"] == 405


def test_the_lifespan_is_entered_once_for_a_sandbox(
    database_url: str, sandbox_loop: asyncio.AbstractEventLoop
) -> None:
    entered: list[str] = []

    @asynccontextmanager
    async def lifespan(_: MCPServer[dict[str, Any]]) -> AsyncGenerator[dict[str, Any]]:
        entered.append("in")
        yield {}
        entered.append("out")

    server = MCPServer("s", lifespan=lifespan, log_level="ERROR")

    @server.tool()
    async def add(a: int, b: int) -> str:
        return str(a + b)

    handler = create_handler(server, database_url=database_url)
    caller = Caller(handler, function_url)
    caller.initialize()
    for _ in range(5):
        caller.add(1, 2)
    assert entered == ["in"]
    sandbox_loop.run_until_complete(handler.aclose())
    assert entered == ["in", "out"]


@pytest.mark.parametrize("event", PLAIN)
def test_an_event_that_is_no_request_is_answered_with_nothing(
    new_sandbox: Callable[..., Handler], event: Any
) -> None:
    assert new_sandbox()(event, LambdaContext()) is None


def _nothing(event: Any, context: Any) -> None:
    del event, context


def _answer(event: Any, context: Any) -> dict[str, int]:
    del event, context
    return {"statusCode": 200}


@pytest.mark.parametrize("event", UNKNOWN)
def test_a_request_of_another_front_door_is_never_answered_with_nothing(
    new_sandbox: Callable[..., Handler], event: Any
) -> None:
    handler = new_sandbox()
    with pytest.raises(TmcpError, match="is not served"):
        handler(event, LambdaContext())
    handler.on_event(_nothing)
    with pytest.raises(TmcpError, match="is not served"):
        handler(event, LambdaContext())
    handler.on_event(_answer)
    assert handler(event, LambdaContext()) == {"statusCode": 200}


@pytest.mark.parametrize("error", [SystemExit(2), KeyboardInterrupt(), GeneratorExit(), StopIteration()])
def test_a_function_that_exits_is_the_invocations_error(
    new_sandbox: Callable[..., Handler], error: BaseException
) -> None:
    handler = new_sandbox()

    def ordinary(*_: Any) -> None:
        raise error

    async def coroutine(*_: Any) -> None:
        raise error

    for function in (ordinary, coroutine):
        handler.on_event(function)
        with pytest.raises((ExitError, RuntimeError)):
            handler(SCHEDULE, LambdaContext())


def test_an_event_that_is_no_request_goes_to_the_function_that_was_registered(
    new_sandbox: Callable[..., Handler],
) -> None:
    handler = new_sandbox()

    @handler.on_event
    async def sweep(event: Any, context: Any) -> Any:
        await handler.notifier.tools_changed()
        return [event, context.function_name]

    assert inspect.iscoroutinefunction(sweep), "it is still what it was"
    caller = Caller(handler, function_url)
    caller.initialize()
    for _ in range(3):
        assert handler(SCHEDULE, LambdaContext()) == [SCHEDULE, "mcp"]
        assert caller.add(1, 2) == "3"


def test_an_ordinary_function_may_have_an_event_loop_of_its_own(new_sandbox: Callable[..., Handler]) -> None:
    handler = new_sandbox()

    @handler.on_event
    def sweep(event: Any, context: Any) -> str:
        del event, context
        return asyncio.run(asyncio.sleep(0, "done"))

    del sweep
    assert handler(SCHEDULE, LambdaContext()) == "done"
    Caller(handler, function_url).initialize()


def test_an_object_that_is_called_as_a_coroutine_function_is_awaited(
    new_sandbox: Callable[..., Handler],
) -> None:
    class Hourly:
        async def __call__(self, event: Any, context: Any) -> str:
            del context
            await asyncio.sleep(0)
            return event["what"]

    handler = new_sandbox()
    handler.on_event(Hourly())
    assert handler({"what": "done"}, LambdaContext()) == "done"
