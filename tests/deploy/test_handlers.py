"""The modules that are deployed, each called with the events that it gets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.lambda_demo import function
from local.package import TEMPLATE
from local.template import Template
from tests.deploy.fresh import fresh
from tmcp_serverless.cli.lambda_emulator import LambdaEmulator
from tmcp_serverless.cli.lambda_emulator.front import INVOKE_PATH

EVENTS = Path(__file__).parents[2] / "local" / "events"
PAGE = "https://app.example.com"
HTTP_EVENTS = ["function-url", "rest-api", "http-api", "load-balancer"]


class Context:
    function_name = "notes"
    aws_request_id = "8f5b1c9e"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 29_000


def event(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


def initialized(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the result of `initialize`, whose session was made."""
    assert answer["statusCode"] == 200, answer
    several: dict[str, list[str]] = answer.get("multiValueHeaders") or {}
    headers = {**(answer.get("headers") or {}), **{name: values[0] for name, values in several.items()}}
    assert headers["mcp-session-id"]
    return json.loads(answer["body"])["result"]


@pytest.mark.parametrize("name", HTTP_EVENTS)
def test_the_buffered_handler_serves_each_front_door(
    monkeypatch: pytest.MonkeyPatch,
    database_url: str,
    sandbox_loop: asyncio.AbstractEventLoop,
    name: str,
) -> None:
    variables = template(database_url).variables("BufferedFunction")
    with fresh(monkeypatch, "buffered", **variables) as module:
        try:
            result = initialized(module.handler(event(name), Context()))
            assert result["serverInfo"]["name"] == "notes"
            assert module.handler({"source": "aws.events"}, Context()) is None
        finally:
            sandbox_loop.run_until_complete(module.handler.aclose())


def template(database_url: str) -> Template:
    return Template(TEMPLATE, AccessTokens="open", DatabaseUrl=database_url, Buffered="true")


@pytest.mark.parametrize("name", ["function-url", "rest-api"])
async def test_the_streaming_handler_serves_the_front_doors_that_stream(
    built: Path, database_url: str, tmp_path: Path, name: str
) -> None:
    given = Template(built, AccessTokens="open", DatabaseUrl="-", AllowedOrigins=PAGE)
    made = function(given, built.parent / "StreamingFunction", database_url=database_url, seconds=20)
    with (tmp_path / "log").open("wb") as output:
        async with (
            LambdaEmulator(made, output=output.fileno()) as emulator,
            httpx.AsyncClient(base_url=emulator.url, timeout=60) as client,
        ):
            answer = await client.post(INVOKE_PATH, json=event(name))
            prelude, delimiter, body = answer.content.partition(bytes(8))
            assert delimiter, (tmp_path / "log").read_text()
            assert initialized({**json.loads(prelude), "body": body})["protocolVersion"] == "2025-11-25"
            preflight = {
                "origin": PAGE,
                "access-control-request-method": "POST",
                "access-control-request-headers": "mcp-session-id, mcp-method, last-event-id",
            }
            allowed = await client.options("/mcp", headers=preflight)
            assert allowed.status_code == 200
            assert "mcp-method" in allowed.headers["access-control-allow-headers"].lower()
            refused = await client.options("/mcp", headers={**preflight, "origin": "https://evil.example"})
            assert refused.status_code == 403
            other = await client.post(INVOKE_PATH, json=event("sweep"))
            assert other.content == b"null"
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines, "requests are logged"
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_the_tables_are_made_once_and_swept(monkeypatch: pytest.MonkeyPatch, empty_database_url: str) -> None:
    with fresh(monkeypatch, "migrate", TMCP_DATABASE_URL=empty_database_url) as module:
        first = module.handler(event("migrate"), Context())
        assert {name.partition("_")[0] for name in first["applied"]} == {"info", "keys", "streams"}
        assert module.handler(event("migrate"), Context()) == {"applied": []}
    with fresh(monkeypatch, "sweep", TMCP_DATABASE_URL=empty_database_url) as module:
        assert module.handler(event("sweep"), Context()) == {"removed": 0, "more": False}


@pytest.mark.parametrize("path", sorted(EVENTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_event_for_sam_local_is_used_here(path: Path) -> None:
    assert path.stem in {*HTTP_EVENTS, "sweep", "migrate"}
