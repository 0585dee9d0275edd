"""Sweeping on a schedule and migrating before a release, as Lambda functions."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import TYPE_CHECKING, Any, Self

import asyncpg
import pytest

from tmcp_serverless import ConfigurationError, TmcpError
from tmcp_serverless.hosts import lambda_tasks
from tmcp_serverless.hosts.lambda_tasks import migrate, sweep

if TYPE_CHECKING:
    from types import TracebackType

SCHEDULED = {"version": "0", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}
RESOURCE = {
    "RequestType": "Create",
    "ResponseURL": "https://cloudformation-custom-resource-response.example/arn?Signature=x",
    "StackId": "arn:aws:cloudformation:eu-central-1:123456789012:stack/orders/1",
    "RequestId": "unique",
    "ResourceType": "Custom::TmcpSchema",
    "LogicalResourceId": "Schema",
    "ResourceProperties": {},
}


class Context:
    def __init__(self, seconds: float = 60) -> None:
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self._seconds * 1000)


@pytest.fixture
def configured(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TMCP_DATABASE_URL", database_url)
    return database_url


@pytest.fixture
def without_tables(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TMCP_DATABASE_URL", empty_database_url)
    return empty_database_url


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What CloudFormation is told."""
    answers: list[dict[str, Any]] = []

    class Response:
        def __enter__(self) -> Self:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            pass

    def urlopen(request: urllib.request.Request, *, timeout: float) -> Response:
        assert (request.get_method(), request.full_url) == ("PUT", RESOURCE["ResponseURL"])
        assert request.get_header("Content-type") == ""
        assert timeout < 10
        assert isinstance(request.data, bytes)
        answers.append(json.loads(request.data))
        return Response()

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return answers


def execute(dsn: str, sql: str) -> None:
    async def work() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(sql)
        await connection.close()

    asyncio.run(work())


def test_migrate_says_what_it_applied(without_tables: str) -> None:
    applied = migrate({}, Context())["applied"]
    assert applied[0] == "streams_0001"
    assert migrate(None, None) == {"applied": []}
    execute(without_tables, "SELECT FROM tmcp_sessions")


@pytest.mark.usefixtures("without_tables")
def test_a_custom_resource_is_told_how_it_went(told: list[dict[str, Any]]) -> None:
    applied = migrate(RESOURCE, Context())["applied"]
    update = {**RESOURCE, "RequestType": "Update", "PhysicalResourceId": "tmcp-serverless-schema"}
    assert migrate(update, Context()) == {"applied": []}
    first = {
        "Status": "SUCCESS",
        "Reason": "see the log",
        "PhysicalResourceId": "tmcp-serverless-schema",
        "StackId": RESOURCE["StackId"],
        "RequestId": "unique",
        "LogicalResourceId": "Schema",
        "Data": {"Applied": ", ".join(applied)},
    }
    assert told == [first, {**first, "Data": {"Applied": ""}}]


def test_a_custom_resource_that_is_deleted_keeps_the_tables(
    told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMCP_DATABASE_URL", raising=False)
    migrate({**RESOURCE, "RequestType": "Delete"}, Context())
    assert [answer["Status"] for answer in told] == ["SUCCESS"]


def test_a_migration_that_fails_is_told_and_raised_where_nobody_waits(
    told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMCP_DATABASE_URL", "postgresql://u:hidden@127.0.0.1:1/x")
    assert migrate(RESOURCE, Context()) == {"applied": []}
    [answer] = told
    assert answer["Status"] == "FAILED"
    assert "TMCP_DATABASE_URL" in answer["Reason"]
    assert "hidden" not in answer["Reason"]
    with pytest.raises(TmcpError):
        migrate({}, Context())


def test_a_resource_is_answered_over_https_alone(configured: str) -> None:
    assert configured
    with pytest.raises(TmcpError, match="https"):
        migrate({**RESOURCE, "ResponseURL": "file:///etc/passwd"}, Context())


def test_a_schedule_sweeps(configured: str) -> None:
    migrate({}, Context())
    execute(
        configured,
        "INSERT INTO tmcp_messages (mailbox, n, data, created_at) "
        "SELECT 'default:s', n, 'x', now() - interval '1 day' FROM generate_series(1, 30) AS n",
    )
    assert sweep({"limit": 10}, Context()) == {"removed": 10, "more": True}
    assert sweep(SCHEDULED, Context()) == {"removed": 20, "more": False}


def test_a_schedule_sweeps_until_nothing_is_left(configured: str) -> None:
    migrate({}, Context())
    execute(
        configured,
        "INSERT INTO tmcp_messages (mailbox, n, data, created_at) "
        "SELECT 'default:s', n, 'x', now() - interval '1 day' FROM generate_series(1, 12500) AS n",
    )
    assert sweep(SCHEDULED, Context()) == {"removed": 12_500, "more": False}


def test_a_sweep_that_has_no_time_says_that_more_is_left(
    configured: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate({}, Context())

    def none(_: Any) -> float:
        return 0.0

    monkeypatch.setattr(lambda_tasks, "_seconds_left", none)
    assert sweep(SCHEDULED, Context()) == {"removed": 0, "more": True}
    assert configured


@pytest.mark.parametrize("limit", ["5", None, 0, -1, 2.5, True])
def test_a_limit_that_is_none_is_named(configured: str, limit: Any) -> None:
    assert configured
    with pytest.raises(TmcpError, match=f"`limit` has to be a whole number above 0, not {limit!r}"):
        sweep({"limit": limit}, Context())


def test_without_a_database_there_is_nothing_to_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMCP_DATABASE_URL", raising=False)
    with pytest.raises(ConfigurationError, match="TMCP_DATABASE_URL"):
        sweep(SCHEDULED, Context())


def test_the_loop_that_requests_are_served_on_stays(configured: str) -> None:
    assert configured
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        migrate({}, Context())
        sweep(SCHEDULED, Context())
        assert asyncio.get_event_loop() is loop
    finally:
        loop.close()
        asyncio.set_event_loop(None)
