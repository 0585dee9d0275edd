"""The emulator, with the function of `tests/hosts/lambda_app.py`: what arrives when, freezing and killing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest

from tests.cli.support import lines, lives, until
from tests.hosts.recorded import SCHEDULE
from tests.support.waiting import eventually
from tmcp_serverless.cli.lambda_emulator import Function, LambdaEmulator
from tmcp_serverless.cli.lambda_emulator.front import INVOKE_PATH
from tmcp_serverless.cli.lambda_emulator.sandbox import InitializationError
from tmcp_serverless.cli.output import Output
from tmcp_serverless.errors import ConfigurationError

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
APP = "tests.hosts.lambda_app.handler"

NewEmulator: TypeAlias = Callable[..., AbstractAsyncContextManager[tuple[LambdaEmulator, httpx.AsyncClient]]]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "trace"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def new_emulator(trace: Path, said: list[str]) -> NewEmulator:
    @asynccontextmanager
    async def new(
        handler: str = APP, *, seconds: float = 20, task_root: Path = ROOT, **options: Any
    ) -> AsyncGenerator[tuple[LambdaEmulator, httpx.AsyncClient]]:
        function = Function(handler, task_root, timeout_seconds=seconds, environment={"TRACE": str(trace)})
        async with (
            LambdaEmulator(function, say=said.append, **options) as emulator,
            httpx.AsyncClient(base_url=emulator.url, timeout=60) as client,
        ):
            yield emulator, client

    return new


async def ticks(client: httpx.AsyncClient) -> int:
    return int((await client.get("/host")).text.split()[-1])


@pytest.mark.parametrize("front_door", ["function-url", "rest-api"])
async def test_an_answer_arrives_as_it_is_written(
    new_emulator: NewEmulator, front_door: str, tmp_path: Path
) -> None:
    parts = [tmp_path / name for name in ("a", "b", "c")]
    async with new_emulator(front_door=front_door) as (_, client):
        body = " ".join(map(str, [ROOT, *parts]))
        async with client.stream("POST", "/stream", content=body) as response:
            assert response.headers["content-type"] == "text/plain"
            chunks = response.aiter_text()
            assert await anext(chunks) == f"{ROOT}\n"
            for part in parts:
                part.touch()
                async with asyncio.timeout(30):
                    assert await anext(chunks) == f"{part}\n", "nothing later is there before it was written"
            assert [chunk async for chunk in chunks] == []


@pytest.mark.parametrize("front_door", ["function-url", "rest-api"])
async def test_a_request_and_its_answer_come_through(new_emulator: NewEmulator, front_door: str) -> None:
    async with new_emulator(front_door=front_door) as (_, client):
        for body, content_type in ((b"text", "text/plain"), (b"\0\xff\xfe", "application/octet-stream")):
            response = await client.post("/echo?a=1", content=body, headers={"content-type": content_type})
            assert (response.status_code, response.content) == (201, body)
            assert response.headers.get_list("set-cookie") == ["one=1; Path=/", "two=2"]
            assert response.headers["x-list"] == "a, b"
            assert response.headers["x-trace"].startswith("Root=1-")
            assert response.headers["x-tmcp-instance"] == "1"
        assert (await client.get("/empty")).status_code == 202


async def test_a_rest_api_is_reached_with_its_stage_too(new_emulator: NewEmulator) -> None:
    async with new_emulator(front_door="rest-api") as (_, client):
        assert (await client.post("/Prod/echo", content="one")).text == "one"
        assert (await client.post("/echo", content="one")).text == "one"


async def test_a_thousand_invocations_in_one_sandbox(new_emulator: NewEmulator) -> None:
    async with new_emulator() as (emulator, client):
        for number in range(1_000):
            assert (await client.post("/echo", content=str(number))).text == str(number)
        assert [(each.name, each.served) for each in emulator.sandboxes] == [("1", 1_000)]


async def test_nothing_runs_between_invocations(new_emulator: NewEmulator) -> None:
    async with new_emulator() as (emulator, client):
        await client.get("/tick")
        sandbox = emulator.sandboxes[0]
        await eventually(lambda: _is_stopped(sandbox.pid))
        before = await ticks(client)
        await eventually(lambda: _is_stopped(sandbox.pid))
        await asyncio.sleep(1)
        assert await ticks(client) - before <= 3, "a hundred would have fitted in"
        assert sandbox.served == 3


async def test_a_sandbox_is_frozen_when_the_application_has_returned_not_before(
    new_emulator: NewEmulator, trace: Path, tmp_path: Path
) -> None:
    async with new_emulator() as (emulator, client):
        go_on = tmp_path / "go-on"
        assert (await client.post("/after", content=str(go_on))).text == "done"
        assert not emulator.sandboxes[0].frozen
        go_on.touch()
        await eventually(lambda: _is_stopped(emulator.sandboxes[0].pid))
        assert lines(trace) == ["after"]


async def test_a_client_that_leaves_is_no_news_to_the_function(
    new_emulator: NewEmulator, tmp_path: Path
) -> None:
    async with new_emulator() as (emulator, client):
        path = tmp_path / "part"
        async with client.stream("POST", "/stream", content=f"{ROOT} {path}") as response:
            assert await anext(response.aiter_text()) == f"{ROOT}\n"
        await asyncio.sleep(0.2)
        assert emulator.sandboxes[0].current is not None
        path.touch()
        await eventually(lambda: _is_stopped(emulator.sandboxes[0].pid))


async def test_a_slow_client_slows_the_function_down(new_emulator: NewEmulator, trace: Path) -> None:
    async with new_emulator() as (_, client), client.stream("POST", "/large", content="200") as response:
        chunks = response.aiter_raw()
        size = len(await anext(chunks))
        await asyncio.sleep(1)
        assert len(lines(trace)) < 100
        async for chunk in chunks:
            size += len(chunk)
        assert size == 200 * 1_048_576


async def test_the_deadline_kills_what_cannot_be_cancelled(
    new_emulator: NewEmulator, said: list[str]
) -> None:
    async with new_emulator(seconds=1) as (emulator, client):
        await emulator.warm()
        started = time.monotonic()
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/block")
        assert 0.9 < time.monotonic() - started < 10
        assert (await client.get("/empty")).headers["x-tmcp-instance"] == "2"
    assert "Sandbox.Timedout: Task timed out after 1.00 seconds" in said[0]


async def test_a_frozen_sandbox_is_killed_at_its_deadline(new_emulator: NewEmulator) -> None:
    async with (
        new_emulator(seconds=1) as (emulator, client),
        client.stream("POST", "/stream", content=f"{ROOT} /never") as response,
    ):
        sandbox = emulator.sandboxes[0]
        sandbox.freeze()
        with pytest.raises(httpx.RemoteProtocolError):
            await response.aread()
        await eventually(lambda: _is_true(emulator.sandboxes == []))
        assert sandbox.pid is None


async def test_a_process_that_ends_is_a_502_and_is_replaced(
    new_emulator: NewEmulator, said: list[str]
) -> None:
    async with new_emulator() as (_, client):
        response = await client.get("/crash")
        assert (response.status_code, response.json()) == (502, {"Message": "Internal Server Error"})
        assert response.headers["x-amzn-errortype"] == "Runtime.ExitError"
        assert (await client.get("/empty")).headers["x-tmcp-instance"] == "2"
    assert "Runtime.ExitError: Runtime exited: exit status 3" in said[0]


async def test_an_answer_that_fails_in_the_middle_is_cut_and_the_reason_said(
    new_emulator: NewEmulator, said: list[str]
) -> None:
    async with new_emulator() as (_, client):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/late")
        assert (await client.get("/early")).status_code == 500
        assert (await client.get("/empty")).headers["x-tmcp-instance"] == "1"
    assert "ValueError: in the answer" in said[0]


async def test_requests_at_once_have_sandboxes_of_their_own_up_to_the_limit(
    new_emulator: NewEmulator, tmp_path: Path
) -> None:
    async with new_emulator(sandboxes=2) as (emulator, client):
        path = tmp_path / "part"
        waiting = [asyncio.create_task(client.post("/stream", content=str(path))) for _ in range(2)]
        await eventually(lambda: _all_busy(emulator, 2))
        throttled = await client.get("/empty")
        assert throttled.status_code == 429
        assert throttled.json()["Reason"] == "ConcurrentInvocationLimitExceeded"
        path.touch()
        assert {(await each).headers["x-tmcp-instance"] for each in waiting} == {"1", "2"}
        assert (await client.get("/empty")).status_code == 202


async def test_other_events_are_posted_as_they_are(new_emulator: NewEmulator) -> None:
    async with new_emulator() as (_, client):
        answer = await client.post(INVOKE_PATH, json=SCHEDULE)
        assert answer.json()["event"] == SCHEDULE
        failed = await client.post(INVOKE_PATH, json={"raise": True})
        assert failed.headers["x-amz-function-error"] == "Unhandled"
        assert failed.json()["errorType"] == "ValueError"


async def test_the_end_is_sigterm(new_emulator: NewEmulator, trace: Path) -> None:
    async with new_emulator() as (emulator, client):
        await client.get("/empty")
        pid = emulator.sandboxes[0].pid
        assert pid is not None
    assert not lives(pid)
    assert lines(trace) == ["close"]


async def test_the_end_in_an_invocation_drains_first(new_emulator: NewEmulator, trace: Path) -> None:
    async with new_emulator() as (_, client), client.stream("GET", "/hang") as response:
        assert await anext(response.aiter_text()) == "one\n"
    assert lines(trace) == ["drain", "cancelled", "close"]


async def test_a_function_that_cannot_start_says_why(new_emulator: NewEmulator) -> None:
    output = Output()
    async with new_emulator("no_such.handler", output=output.descriptor) as (emulator, client):
        with pytest.raises(InitializationError, match=r"Runtime\.ImportModuleError: Unable to import"):
            await emulator.warm()
        response = await client.get("/empty")
        assert response.status_code == 502
        assert response.headers["x-amzn-errortype"] == "Runtime.ImportModuleError"
        assert emulator.sandboxes == []
    assert "No module named 'no_such'" in output.text()
    output.close()


async def test_a_wrapper_that_lambda_could_not_run_is_refused_in_its_words(
    new_emulator: NewEmulator, tmp_path: Path
) -> None:
    (tmp_path / "streaming").write_text("#!/bin/sh\n")
    for wrapper, words in (("streaming", "is not an executable"), ("other", "does not exist")):
        function = Function("app.handler", tmp_path, exec_wrapper=f"/var/task/{wrapper}")
        async with LambdaEmulator(function) as emulator:
            with pytest.raises(ConfigurationError, match=words):
                await emulator.warm()
    with pytest.raises(ConfigurationError, match="AWS_LAMBDA_EXEC_WRAPPER"):
        Function("app.handler", tmp_path, isolated=True).command()
    del new_emulator


async def test_an_isolated_function_sees_nothing_but_its_package(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import click\n")
    (tmp_path / "tmcp_serverless").symlink_to(ROOT / "tmcp_serverless")
    for name in ("h11", "pydantic", "pydantic_core", "typing_extensions.py", "annotated_types"):
        (tmp_path / name).symlink_to(Path(httpx.__file__).parents[1] / name)
    (tmp_path / "typing_inspection").symlink_to(Path(httpx.__file__).parents[1] / "typing_inspection")
    script = tmp_path / "streaming"
    script.write_bytes((ROOT / "tmcp_serverless/hosts/lambda-streaming").read_bytes())
    script.chmod(0o755)
    function = Function("app.handler", tmp_path, isolated=True, exec_wrapper="/var/task/streaming")
    output = Output()
    async with LambdaEmulator(function, output=output.descriptor) as emulator:
        with pytest.raises(InitializationError, match="No module named 'click'"):
            await emulator.warm()
    output.close()


def test_sandboxes_do_not_outlive_an_emulator_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, pathlib\n"
        "from tmcp_serverless.cli.lambda_emulator import Function, LambdaEmulator\n"
        "async def main():\n"
        f"    async with LambdaEmulator(Function('{APP}', pathlib.Path('{ROOT}'))) as emulator:\n"
        "        await emulator.warm()\n"
        f"        pathlib.Path('{tmp_path}/pid').write_text(str(emulator.sandboxes[0].pid))\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        pid = int((tmp_path / "pid").read_text())
        until(lambda: asyncio.run(_is_stopped(pid)))
        process.kill()
    until(lambda: not lives(pid))


async def _all_busy(emulator: LambdaEmulator, count: int) -> bool:
    return len(emulator.sandboxes) == count and all(each.current for each in emulator.sandboxes)


async def _is_true(value: object) -> bool:
    return bool(value)


async def _is_stopped(pid: int | None) -> bool:
    assert pid is not None
    if not os.path.isdir("/proc"):  # noqa: ASYNC240, PTH112 - it is in memory
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"  # noqa: ASYNC240 - the same
