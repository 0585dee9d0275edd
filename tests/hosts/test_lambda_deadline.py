"""The deadline of an invocation: requests are answered before it, whatever application and client do."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.support import lines
from tests.hosts import lambda_app
from tests.hosts.platform import Platform, framed, running
from tests.hosts.recorded import STREAMING, WHOLE, function_url
from tests.support.waiting import eventually
from tmcp_serverless.hosts.deadline import DeadlineRunner, TimeIsOverError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from pathlib import Path

pytestmark = pytest.mark.anyio

SECONDS = 1.0


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the application notes."""
    monkeypatch.setenv("TRACE", str(tmp_path / "trace"))
    return tmp_path / "trace"


@pytest.fixture
async def platform(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Platform]:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "")  # the loop sets it
    async with running(lambda_app.handler) as platform:
        yield platform


@pytest.fixture
def until(platform: Platform, tmp_path: Path) -> Generator[Path]:
    """What `/stubborn` waits for; it is there before the loop is closed, whatever comes of the test."""
    del platform
    yield tmp_path / "until"
    (tmp_path / "until").touch()


@pytest.mark.parametrize("event", STREAMING)
async def test_an_application_that_does_not_end_is_left_behind_and_the_next_invocation_is_served(
    platform: Platform,
    trace: Path,
    event: Callable[..., dict[str, Any]],
    until: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    invocation = await platform.invoke(event(path="/stubborn", body=str(until)), seconds=SECONDS)
    head, body = await framed(invocation)
    assert (head["statusCode"], body, invocation.failure) == (504, b"Gateway Timeout", None)
    assert "/stubborn does not end though it was cancelled" in caplog.text
    assert (await framed(await platform.invoke(event(path="/empty"))))[0]["statusCode"] == 202
    assert lines(trace) == [], "the first one still runs"
    await asyncio.to_thread(until.touch)

    async def noted() -> list[str]:
        return lines(trace)

    assert await eventually(noted) == ["nothing arrives"]
    assert platform.again == 0


async def test_an_answer_that_has_begun_ends_with_trailers_though_its_application_does_not(
    platform: Platform, until: Path
) -> None:
    event = function_url(path="/stubborn-late", body=str(until))
    invocation = await platform.invoke(event, seconds=SECONDS)
    assert (await framed(invocation))[1] == b"one\n"
    assert invocation.failure is not None
    assert invocation.failure.type == "Runtime.TimeIsOver"


@pytest.mark.parametrize("path", ["/large", "/insists"])
async def test_a_client_that_does_not_read_does_not_keep_the_sandbox(platform: Platform, path: str) -> None:
    invocation = await platform.invoke(function_url(path=path, body="64"), seconds=SECONDS)
    assert invocation.failure is not None
    assert invocation.failure.type in ("Runtime.AnswerLost", "Runtime.TruncatedResponse")
    assert (await framed(await platform.invoke(function_url(path="/empty"))))[0]["statusCode"] == 202
    assert platform.again == 0


@pytest.mark.parametrize("path", ["/silent", "/stubborn"])
@pytest.mark.parametrize("event", WHOLE)
async def test_a_whole_answer_is_given_before_the_deadline_too(
    platform: Platform, event: Callable[..., dict[str, Any]], path: str, until: Path
) -> None:
    invocation = await platform.invoke(event(path=path, body=str(until)), seconds=SECONDS)
    answer = json.loads(await invocation.whole())
    assert (answer["statusCode"], answer["body"]) == (504, "Gateway Timeout")


class LambdaContext:
    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int((self._ends - time.monotonic()) * 1000)


@pytest.mark.parametrize("path", ["/silent", "/stubborn"])
def test_on_awss_own_runtime_a_request_is_answered_before_its_deadline(
    sandbox_loop: asyncio.AbstractEventLoop, path: str, tmp_path: Path
) -> None:
    from tmcp_serverless.hosts.lambda_buffered import buffered

    until = tmp_path / "until"
    handler = buffered(lambda_app.handler.app, lambda_app.handler.handle_event)
    answer = handler(function_url(path=path, body=str(until)), LambdaContext(SECONDS))
    assert (answer["statusCode"], answer["body"]) == (504, "Gateway Timeout")
    until.touch()
    assert handler(function_url(path="/empty"), LambdaContext(30))["statusCode"] == 202
    left = asyncio.all_tasks(sandbox_loop)
    sandbox_loop.run_until_complete(asyncio.wait_for(asyncio.gather(*left), 60))


async def test_an_error_of_what_was_left_behind_is_logged_under_its_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    go_on = asyncio.Event()

    async def request() -> None:
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        raise ValueError("too late")

    runner = DeadlineRunner()
    with pytest.raises(TimeIsOverError, match="GET /x was cancelled"):
        await runner.run(request(), deadline=time.monotonic() + 0.6, name="GET /x")
    go_on.set()

    async def logged() -> bool:
        return "GET /x ended with an error after its deadline" in caplog.text

    await eventually(logged)
    assert "ValueError: too late" in caplog.text


async def test_whoever_is_cancelled_waits_for_the_request_that_it_runs() -> None:
    ended: list[str] = []
    begun = asyncio.Event()

    async def request() -> None:
        try:
            begun.set()
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0)
            ended.append("ended")

    running = asyncio.create_task(DeadlineRunner().run(request(), deadline=None, name="GET /x"))
    await begun.wait()
    running.cancel()
    await asyncio.wait({running})
    assert (running.cancelled(), ended) == (True, ["ended"])
