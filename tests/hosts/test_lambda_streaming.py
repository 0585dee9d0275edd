"""The loop over the Runtime API, in this process: events in, whole framed answers out."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.hosts import lambda_app
from tests.hosts.platform import Platform, framed, running
from tests.hosts.recorded import PLAIN, STREAMING, UNKNOWN, WHOLE, function_url, in_base64, rest_api
from tmcp_serverless.cli.lambda_emulator.runtime_server import RuntimeServer
from tmcp_serverless.hosts.lambda_streaming.loading import InitializationError, load_handler
from tmcp_serverless.hosts.lambda_streaming.runtime_api import RuntimeApi
from tmcp_serverless.hosts.lambda_streaming.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

pytestmark = pytest.mark.anyio


@pytest.fixture
async def platform(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Platform]:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "")  # the loop sets it
    async with running(lambda_app.handler) as platform:
        yield platform


@pytest.mark.parametrize("event", STREAMING)
async def test_an_answer_is_a_head_eight_nuls_and_the_body(
    platform: Platform, event: Callable[..., dict[str, Any]]
) -> None:
    body = "text with \0 in it, and 😀"
    for request in (event(body=body, path="/echo"), in_base64(event(body=body, path="/echo"))):
        invocation = await platform.invoke(request)
        assert await framed(invocation) == (
            {
                "statusCode": 201,
                "headers": {
                    "content-type": "text/plain",
                    "x-list": "a, b",
                    "x-trace": os.environ["_X_AMZN_TRACE_ID"],
                },
                "cookies": ["one=1; Path=/", "two=2"],
            },
            body.encode(),
        )
        assert invocation.failure is None
        assert invocation.id.replace("-", "")[8:] in os.environ["_X_AMZN_TRACE_ID"]


async def test_an_answer_without_a_body_has_its_head(platform: Platform) -> None:
    head = {"statusCode": 202, "headers": {}, "cookies": []}
    assert await framed(await platform.invoke(function_url(path="/empty"))) == (head, b"")


@pytest.mark.parametrize("event", WHOLE)
async def test_a_front_door_that_does_not_stream_gets_a_whole_answer(
    platform: Platform, event: Callable[..., dict[str, Any]]
) -> None:
    invocation = await platform.invoke(in_base64(event(body="hello", path="/echo")))
    assert not invocation.streamed
    answer = json.loads(await invocation.whole())
    assert answer["statusCode"] == 201
    assert answer["body"] == "hello"
    told = json.loads(await (await platform.invoke(event(path="/host"), seconds=30)).whole())
    streams, left, *_ = told["body"].split()
    assert streams == "False"
    assert 25 < float(left) <= 30


@pytest.mark.parametrize("event", [*PLAIN, *UNKNOWN])
async def test_what_is_no_request_goes_to_the_handlers_function(platform: Platform, event: Any) -> None:
    invocation = await platform.invoke(event)
    answer = json.loads(await invocation.whole())
    assert answer["event"] == event
    assert answer["id"] == invocation.id
    assert 25_000 < answer["left"] <= 30_000
    assert (invocation.streamed, invocation.content_type) == (False, "application/json")


async def test_what_a_function_raises_is_the_invocations_error(platform: Platform) -> None:
    invocation = await platform.invoke({"raise": True})
    assert invocation.failure is not None
    assert invocation.failure.type == "Function.ValueError"
    error = json.loads(invocation.failure.body)
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "so it was asked")
    assert "lambda_app.py" in "".join(error["stackTrace"])
    unwritable = await platform.invoke({"unwritable": True})
    assert unwritable.failure is not None
    assert unwritable.failure.type == "Runtime.MarshalError"
    assert (await platform.invoke({})).failure is None


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/early", 500, b"Internal Server Error"),
        ("/started", 500, b"Internal Server Error"),
        ("/nothing", 500, b"Internal Server Error"),
        ("/cancelled", 500, b"Internal Server Error"),
        ("/text-headers", 500, b"Internal Server Error"),
        ("/too-late", 200, b"whole"),
        ("/twice", 200, b"once"),
    ],
)
async def test_a_failure_outside_of_the_answer_leaves_a_whole_one(
    platform: Platform, path: str, status: int, text: bytes
) -> None:
    invocation = await platform.invoke(function_url(path=path))
    head, body = await framed(invocation)
    assert (head["statusCode"], body, invocation.failure) == (status, text, None)


@pytest.mark.parametrize(
    ("path", "type", "message"),
    [
        ("/late", "Function.ValueError", "ValueError: in the answer"),
        ("/cancelled-late", "Function.CancelledError", "CancelledError: "),
        (
            "/half",
            "Runtime.IncompleteAnswer",
            "Runtime.IncompleteAnswer: The application returned without ending its answer",
        ),
    ],
)
async def test_a_failure_in_the_answer_is_in_its_trailers(
    platform: Platform, path: str, type: str, message: str
) -> None:
    invocation = await platform.invoke(function_url(path=path))
    assert (await framed(invocation))[1] == b"one\n"
    assert invocation.failure is not None
    assert (invocation.failure.type, invocation.failure.message) == (type, message)


async def test_a_body_that_is_no_base64_is_an_error_and_nothing_dies(platform: Platform) -> None:
    event = {**function_url(path="/echo", body="a"), "isBase64Encoded": True}
    assert (await framed(await platform.invoke(event)))[0]["statusCode"] == 500
    assert (await framed(await platform.invoke(function_url(path="/empty"))))[0]["statusCode"] == 202


async def test_the_deadline_is_the_hosts_and_the_context_is_lambdas(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "orders")
    for event in (function_url, rest_api):
        streams, left, name, *_ = (
            (await framed(await platform.invoke(event(path="/host"), seconds=20)))[1].decode().split()
        )
        assert (streams, name) == ("True", "orders")
        assert 19 < float(left) <= 20


async def test_a_request_is_cancelled_shortly_before_its_deadline(platform: Platform) -> None:
    silent = await platform.invoke(function_url(path="/silent"), seconds=0.7)
    head, body = await framed(silent)
    assert (head["statusCode"], body) == (504, b"Gateway Timeout")
    hanging = await platform.invoke(function_url(path="/hang"), seconds=0.7)
    assert (await framed(hanging))[1] == b"one\n"
    assert hanging.failure is not None
    assert hanging.failure.type == "Runtime.TimeIsOver"


async def test_there_is_one_event_loop_and_one_extension(platform: Platform) -> None:
    lambda_app.loops.clear()
    bodies = [(await framed(await platform.invoke(function_url(path="/host"))))[1] for _ in range(5)]
    assert {body.split()[-2] for body in bodies} == {b"1"}
    assert platform.extensions == 1


async def test_an_invocation_lasts_until_the_application_returns(
    platform: Platform, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACE", str(tmp_path / "trace"))
    path = tmp_path / "go-on"
    invoking = asyncio.create_task(platform.invoke(function_url(path="/after", body=str(path))))
    while platform.current is None or not platform.current.ended:
        await asyncio.sleep(0.005)
    assert not platform.idle.is_set(), "the answer is complete, the invocation is not"
    path.touch()
    await invoking
    assert (tmp_path / "trace").read_text() == "after\n"


async def test_the_loop_ends_when_the_runtime_api_is_gone() -> None:
    platform = Platform()
    server = RuntimeServer(platform, handler="app.handler")
    sandbox = asyncio.create_task(Sandbox(lambda_app.handler, RuntimeApi(await server.start())).run())
    await platform.idle.wait()
    await server.aclose()
    with pytest.raises(OSError, match=r"Connect call failed|closed"):
        await asyncio.wait_for(sandbox, 60)


@pytest.mark.parametrize(
    ("name", "type", "message"),
    [
        ("handler", "Runtime.MalformedHandlerName", "it is not MODULE.NAME"),
        ("no.such.handler", "Runtime.ImportModuleError", "Unable to import module 'no.such': No module"),
        ("tests.hosts.lambda_app.nothing", "Runtime.HandlerNotFound", "Handler 'nothing' missing on module"),
        ("tests.hosts.lambda_app.text", "Runtime.HandlerNotFound", "is no handler made by tmcp_serverless."),
        ("wrong_syntax.handler", "Runtime.UserCodeSyntaxError", "line 2"),
        ("raising.handler", "ZeroDivisionError", "division by zero"),
    ],
)
def test_what_is_no_handler_is_an_initialization_error(
    name: str, type: str, message: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrong_syntax.py").write_text("x = 1\nhandler =\n")
    (tmp_path / "raising.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InitializationError) as raised:
        load_handler(name)
    assert raised.value.fault.type == type
    assert message in raised.value.fault.message


def test_a_modules_name_may_have_slashes() -> None:
    assert load_handler("tests/hosts/lambda_app.handler") is lambda_app.handler
