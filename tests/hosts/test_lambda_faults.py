"""What goes wrong in an invocation is that invocation's error: it has one answer, and the sandbox goes on."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.hosts import lambda_app
from tests.hosts.platform import Platform, framed, running
from tests.hosts.recorded import function_url, rest_api
from tmcp_serverless.cli.lambda_emulator.runtime_server import RuntimeServer
from tmcp_serverless.hosts.lambda_streaming.runtime_api import RuntimeApi
from tmcp_serverless.hosts.lambda_streaming.sandbox import Sandbox
from tmcp_serverless.hosts.lambda_streaming.wire import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
async def platform(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Platform]:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "")  # the loop sets it
    async with running(lambda_app.handler) as platform:
        yield platform


async def test_a_task_that_others_cancelled_is_the_functions_error_and_nothing_runs_twice(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACE", str(tmp_path / "trace"))
    assert (await framed(await platform.invoke(function_url(path="/cancelled"))))[0]["statusCode"] == 500
    event = await platform.invoke({"cancelled": True})
    assert event.failure is not None
    assert event.failure.type == "Function.CancelledError"
    assert ((tmp_path / "trace").read_text(), platform.again) == ("cancelled\n" * 2, 0)


async def test_a_request_that_cancels_itself_fails_alone(platform: Platform) -> None:
    invocation = await platform.invoke(function_url(path="/cancels-itself"))
    assert (await framed(invocation))[0]["statusCode"] == 500
    assert (await framed(await platform.invoke(function_url(path="/empty"))))[0]["statusCode"] == 202
    assert platform.again == 0


async def test_a_function_that_cancels_its_invocation_ends_the_process_with_that_open() -> None:
    platform = Platform()
    server = RuntimeServer(platform, handler="app.handler")
    sandbox = asyncio.create_task(Sandbox(lambda_app.handler, RuntimeApi(await server.start())).run())
    await platform.idle.wait()
    invoking = asyncio.create_task(platform.invoke({"cancels itself": True}))
    with pytest.raises(OSError, match="cancelled from inside"):
        await asyncio.wait_for(sandbox, 60)
    assert (platform.again, platform.current is not None and platform.current.ended) == (0, False)
    invoking.cancel()
    await server.aclose()


async def test_an_answer_that_is_cut_off_is_reported_and_the_invocation_does_not_come_again(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut(*_: Any) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(RuntimeApi, "succeed", cut)
    invocation = await platform.invoke({})
    assert invocation.failure is not None
    assert invocation.failure.type == "Runtime.AnswerLost"
    monkeypatch.setattr(Connection, "write", cut)
    for path in ("/echo", "/shrugs"):
        streamed = await platform.invoke(function_url(path=path))
        assert streamed.failure is not None, path
    assert platform.again == 0


async def test_an_answer_that_is_cut_off_without_a_word_is_logged_by_its_error(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def cut(*_: Any) -> None:
        raise TimeoutError

    monkeypatch.setattr(RuntimeApi, "succeed", cut)
    await platform.invoke({})
    assert "an answer did not arrive: TimeoutError()" in caplog.text


@pytest.mark.parametrize("message", ["short", "x" * 100_000, "\u20ac" * 5_000, "\U0001f600" * 1_500])
async def test_trailers_fit_into_the_buffer_that_they_are_read_with(platform: Platform, message: str) -> None:
    invocation = await platform.invoke(function_url(path="/deep", body=message))
    assert (await framed(invocation))[1] == b"one\n"
    assert invocation.failure is not None
    error = json.loads(invocation.failure.body)
    assert (invocation.failure.type, error["errorType"]) == ("Function.ValueError", "ValueError")
    assert message.startswith(error["errorMessage"])
    assert len(error["errorMessage"]) >= min(len(message), 60)
    assert "raise ValueError(message)" in error["stackTrace"][-1], "the innermost frame stays"
    assert platform.again == 0


@pytest.mark.parametrize("name", ["Überlauf", "two words\r\n", "x" * 10_000])
async def test_a_class_may_be_called_anything(platform: Platform, name: str) -> None:
    invocation = await platform.invoke({"named": name})
    assert invocation.failure is not None
    assert re.fullmatch(r"Function\.[A-Za-z0-9_]{1,150}", invocation.failure.type)
    assert json.loads(invocation.failure.body)["errorType"] == name
    assert (await platform.invoke({})).failure is None


async def test_an_exception_that_cannot_be_printed_is_answered_like_any_other(platform: Platform) -> None:
    event = await platform.invoke({"unprintable": True})
    assert event.failure is not None
    assert event.failure.type == "Function.UnprintableError"
    assert "cannot be printed: AttributeError" in event.failure.message
    assert (await framed(await platform.invoke(function_url(path="/unprintable"))))[0]["statusCode"] == 500
    late = await platform.invoke(function_url(path="/unprintable-late"))
    assert late.failure is not None
    assert late.failure.type == "Function.UnprintableError"


def without_method() -> dict[str, Any]:
    event = function_url()
    del event["requestContext"]["http"]["method"]
    return event


@pytest.mark.parametrize(
    "event",
    [
        without_method(),
        function_url(path=None),
        {**function_url(), "headers": {"x": 1}},
        {**function_url(), "requestContext": {"http": None}},
        {**rest_api(), "multiValueHeaders": {"x": 1}},
    ],
)
async def test_an_event_that_cannot_be_read_fails_alone(platform: Platform, event: Any) -> None:
    failed = await platform.invoke(event)
    assert failed.failure is not None
    assert failed.failure.type.startswith("Function.")
    assert (await framed(await platform.invoke(function_url(path="/empty"))))[0]["statusCode"] == 202


async def test_a_host_that_cannot_be_read_is_the_applications_to_refuse(platform: Platform) -> None:
    for host in ("a:b", "[x"):
        invocation = await platform.invoke(function_url(path="/empty", headers={"host": host}))
        assert (await framed(invocation))[0]["statusCode"] == 202
