"""Logs and metrics: what is written for a request and a stream, and that nothing is where nobody asked."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from importlib import machinery
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server import MCPServer

from tests.support.client import Client
from tests.support.servers import small_server
from tests.support.waiting import eventually
from tmcp_serverless import ConfigurationError, create_handler, observability
from tmcp_serverless.log_lines import INVOCATION_ID

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.support.fixtures import NewHandler


@pytest.fixture(autouse=True)
def logger_as_before(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    for name in ("AWS_LAMBDA_FUNCTION_NAME", "POWERTOOLS_SERVICE_NAME", "POWERTOOLS_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    ours = logging.getLogger("tmcp_serverless")
    before = (ours.level, ours.propagate, list(ours.handlers))
    yield
    ours.level, ours.propagate, ours.handlers = before


@pytest.fixture
def server() -> MCPServer:
    server = small_server()

    @server.tool()
    async def fields() -> str:
        return json.dumps(observability.request_fields())

    return server


def written(capsys: pytest.CaptureFixture[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the log lines and the metrics that were written so far, but for the namespace at the start."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    lines = [line for line in lines if not str(line.get("message")).startswith("the namespace in the")]
    return [line for line in lines if "_aws" not in line], [line for line in lines if "_aws" in line]


async def test_a_request_is_one_line_with_whose_it_is(
    new_handler: NewHandler, server: MCPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await Client(new_handler(server, log_format="json").app).initialize()
    assert client.session is not None
    capsys.readouterr()
    await client.ask("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}}, x_request_id="r-1")
    [line], metrics = written(capsys)
    assert metrics == []
    assert {
        name: line[name] for name in ("level", "logger", "message", "method", "era", "request_id", "status")
    } == {
        "level": "INFO",
        "logger": "tmcp_serverless.requests",
        "message": "POST /mcp 200",
        "method": "tools/call",
        "era": "handshake",
        "request_id": "r-1",
        "status": 200,
    }
    assert line["session"] == hashlib.sha256(client.session.encode()).hexdigest()[:12]
    assert line["milliseconds"] > 0
    assert ":" in line["instance"]
    assert client.session not in json.dumps(line)


async def test_lines_of_the_kit_and_of_a_tool_know_the_request(
    new_handler: NewHandler, server: MCPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    @server.tool()
    async def complain() -> str:
        logging.getLogger("tmcp_serverless.x").warning("complaint")
        return "done"

    client = await Client(new_handler(server, log_format="json").app).initialize()
    capsys.readouterr()
    client.always = {"traceparent": "00-abc-def-01"}
    found = json.loads(await client.call("fields"))
    assert found.pop("namespace", "default") == "default"  # in memory there is none
    assert found.keys() == {"era", "instance", "request_id", "session", "method"}
    await client.call("complain")
    [complaint] = [line for line in written(capsys)[0] if line["message"] == "complaint"]
    assert (complaint["request_id"], complaint["session"]) == (found["request_id"], found["session"])
    assert observability.request_fields() == {}


async def test_requests_and_errors_are_measured_by_era(
    new_handler: NewHandler, server: MCPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await Client(
        new_handler(server, metrics=True, metrics_namespace="Orders", log_format="plain").app
    ).initialize()
    capsys.readouterr()
    await client.result("ping")
    _, [found] = written(capsys)
    assert (found["Requests"], found["Errors"]) == ([1.0], [0.0])
    assert (found["era"], found["service"]) == ("handshake", "tmcp_serverless")
    [described] = found["_aws"]["CloudWatchMetrics"]
    assert described["Namespace"] == "Orders"


async def test_a_stream_is_measured_when_it_opens_and_when_it_ends_and_so_is_its_takeover(
    new_handler: NewHandler, server: MCPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = new_handler(server, metrics=True, log_format="plain")
    client = await Client(handler.app).initialize()
    async with client.listen() as first:
        await first.begun()
        await handler.notifier.tools_changed()
        await first.count(1)
        opened = [line["StreamsOpened"] for line in written(capsys)[1] if "StreamsOpened" in line]
        assert opened == [[1.0]], "while it is open"
        async with client.listen() as second:
            await second.begun()
            await first.until(lambda: "@+" in first.ids[-1])

    async def ended() -> list[dict[str, Any]]:
        found.extend(line for line in written(capsys)[1] if "StreamSeconds" in line)
        return found if len(found) == 2 else []

    found: list[dict[str, Any]] = []
    last, taken = await eventually(ended)
    assert (taken["EventsDelivered"], taken["Takeovers"]) == ([1.0], [1.0])
    assert taken["StreamSeconds"][0] > 0
    assert (last["EventsDelivered"], "Takeovers" in last) == ([0.0], False)


async def test_probes_are_not_watched(
    new_handler: NewHandler, server: MCPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Client(new_handler(server, metrics=True, log_format="json").app)
    client.path = "/healthz"
    async with client.send("GET") as exchange:
        await exchange.whole()
    assert written(capsys) == ([], [])


async def test_on_lambda_lines_are_json_by_themselves(
    new_handler: NewHandler,
    server: MCPServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "orders")
    monkeypatch.setenv("AWS_LAMBDA_LOG_STREAM_NAME", "2026/11/20/[$LATEST]abc")

    class Context:
        aws_request_id = "8f5b1c9e"

    client = Client(new_handler(server).app, scope={"aws.context": Context()})
    await client.initialize()
    lines, metrics = written(capsys)
    assert metrics == []
    assert {(line["request_id"], line["instance"]) for line in lines} == {
        ("8f5b1c9e", "2026/11/20/[$LATEST]abc")
    }
    new_handler(server)
    await client.result("ping")
    assert len(written(capsys)[0]) == 1, "a second handler does not write it twice"


@pytest.mark.parametrize(
    ("variables", "level"),
    [
        ({}, "INFO"),
        ({"AWS_LAMBDA_LOG_LEVEL": "TRACE"}, "DEBUG"),
        ({"AWS_LAMBDA_LOG_LEVEL": "FATAL"}, "CRITICAL"),
        ({"AWS_LAMBDA_LOG_LEVEL": "WARN"}, "WARNING"),
        ({"POWERTOOLS_LOG_LEVEL": "debug", "AWS_LAMBDA_LOG_LEVEL": "ERROR"}, "DEBUG"),
        ({"POWERTOOLS_LOG_LEVEL": "loud", "AWS_LAMBDA_LOG_LEVEL": "ERROR"}, "ERROR"),
        ({"POWERTOOLS_LOG_LEVEL": "loud"}, "INFO"),
    ],
)
def test_a_log_level_may_be_written_as_lambda_and_powertools_take_it(
    server: MCPServer, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], level: str
) -> None:
    monkeypatch.delenv("AWS_LAMBDA_LOG_LEVEL", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    create_handler(server, log_format="json")
    assert logging.getLevelName(logging.getLogger("tmcp_serverless").level) == level


async def test_a_path_cannot_forge_a_log_line(
    new_handler: NewHandler, server: MCPServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(new_handler(server, metrics=True, log_format="plain").app)
    client.path = "/x\r\nERROR forged"
    with caplog.at_level(logging.INFO, logger="tmcp_serverless.requests"):
        async with client.send("GET") as exchange:
            await exchange.whole()
    assert caplog.messages == ["GET /x%0D%0AERROR%20forged 404"]


async def test_what_is_said_of_an_invocation_outside_of_its_request_has_its_id(
    server: MCPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    create_handler(server, log_format="json")
    token = INVOCATION_ID.set("8f5b1c9e")
    logging.getLogger("tmcp_serverless.hosts").warning("lost")
    INVOCATION_ID.reset(token)
    logging.getLogger("tmcp_serverless.hosts").warning("over")
    assert [line.get("request_id") for line in written(capsys)[0]] == ["8f5b1c9e", None]


def test_without_powertools_it_is_an_error_only_where_it_was_asked_for(
    server: MCPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_spec(name: str) -> machinery.ModuleSpec | None:
        assert name == "aws_lambda_powertools"
        return None

    monkeypatch.setattr(observability, "find_spec", find_spec)
    with pytest.raises(ConfigurationError, match=r"tmcp-serverless\[aws\]"):
        create_handler(server, metrics=True)
    with pytest.raises(ConfigurationError, match=r"tmcp-serverless\[aws\]"):
        create_handler(server, log_format="json")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "orders")
    create_handler(server)


def test_powertools_is_imported_only_where_it_is_asked_for() -> None:
    code = (
        "import sys\n"
        "from tests.support.stand_in import STAND_IN\n"
        "from tmcp_serverless import create_handler\n"
        "create_handler(STAND_IN{given})\n"
        "sys.exit('aws_lambda_powertools' in sys.modules)"
    )
    for given, imported in (("", 0), (", metrics=True", 1), (", log_format='json'", 1)):
        done = subprocess.run([sys.executable, "-c", code.format(given=given)], check=False)
        assert done.returncode == imported, given


async def test_where_nobody_watches_requests_pass_nothing_by(
    new_handler: NewHandler, server: MCPServer
) -> None:
    app = new_handler(server).app
    assert app._serve == app._serve_http  # pyright: ignore[reportPrivateUsage]  # what a request costs


async def test_a_body_that_is_no_request_has_no_method(
    new_handler: NewHandler, server: MCPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Client(new_handler(server, log_format="json").app)
    for body in (b"[1]", b"no json", b'{"method": 5}', b"[" * 5_000, b"x" * 100_000):
        await client.post(body)
        [line] = [line for line in written(capsys)[0] if line["logger"].endswith(".requests")]
        assert (line["status"], "method" in line) == (400, False)
