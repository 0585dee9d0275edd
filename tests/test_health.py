"""`/healthz` and `/readyz`: what platforms ask of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from mcp.server import MCPServer

from tests.support.client import Client
from tests.support.roles import execute, poor_role
from tests.support.servers import small_server
from tests.test_authentication import official
from tmcp_serverless import Settings, StoreUnavailableError, create_handler
from tmcp_serverless.health import Health
from tmcp_serverless.postgres import schema

if TYPE_CHECKING:
    from tests.differential.wire import Exchange
    from tests.support.fixtures import NewHandler
    from tmcp_serverless.http import ASGIApp
    from tmcp_serverless.testing.postgres import EmbeddedPostgres


@pytest.fixture(autouse=True)
def asked_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Health, "kept_seconds", 0.0)


async def ask(app: ASGIApp, path: str, verb: str = "GET", **headers: str) -> Exchange:
    client = Client(app)
    client.path = path
    async with client.send(verb, **headers) as exchange:
        return await exchange.whole()


@pytest.fixture
def server() -> MCPServer:
    return small_server()


async def test_a_process_whose_database_answers_is_healthy_and_ready(
    new_handler: NewHandler, server: MCPServer
) -> None:
    app = new_handler(server).app
    healthy, ready = await ask(app, "/healthz"), await ask(app, "/readyz")
    assert (healthy.status, healthy.messages) == (200, [{"status": "ok"}])
    assert (ready.status, ready.messages) == (200, [{"status": "ready"}])
    assert healthy.headers["cache-control"] == "no-store"


async def test_a_head_has_no_body_and_other_methods_are_refused(
    new_handler: NewHandler, server: MCPServer
) -> None:
    app = new_handler(server).app
    head = await ask(app, "/readyz", "HEAD")
    assert (head.status, head.messages, head.text) == (200, [], "")
    assert int(head.headers["content-length"]) > 0
    assert (await ask(app, "/readyz", "POST")).status == 405


async def test_probes_need_no_credentials_and_come_with_a_host_of_their_own(
    new_handler: NewHandler,
) -> None:
    app = new_handler(official(), allowed_hosts="mcp.example").app
    for path in ("/healthz", "/readyz"):
        assert (await ask(app, path, host="10.0.0.7:8080", origin="https://elsewhere.example")).status == 200
    assert (await ask(app, "/mcp", host="10.0.0.7:8080")).status == 421


async def test_the_paths_can_be_changed_and_switched_off(new_handler: NewHandler, server: MCPServer) -> None:
    app = new_handler(server, health_path="/_/live/", ready_path="").app
    assert (await ask(app, "/_/live")).status == 200
    assert (await ask(app, "/_/live/")).status == 200
    assert (await ask(app, "/healthz")).status == 404
    assert (await ask(app, "/readyz")).status == 404
    assert (await ask(app, "/elsewhere/_/live")).status == 404


def test_an_empty_variable_switches_a_path_off() -> None:
    settings = Settings.load(environment={"TMCP_READY_PATH": "", "TMCP_PATH": ""})
    assert (settings.health_path, settings.ready_path, settings.path) == ("/healthz", "", "/mcp")


async def test_below_a_root_path(new_handler: NewHandler, server: MCPServer) -> None:
    app = new_handler(server).app
    client = Client(app, scope={"root_path": "/prod"})
    client.path = "/prod/healthz"
    async with client.send("GET") as exchange:
        assert (await exchange.whole()).status == 200


def said(exchange: Exchange) -> tuple[int, Any, str]:
    [body] = exchange.messages
    return exchange.status, body["problem"], body["message"]


async def test_missing_tables_are_not_ready_where_they_are_not_made(
    server: MCPServer, empty_database_url: str
) -> None:
    handler = create_handler(server, database_url=empty_database_url, create_tables=False)
    status, problem, message = said(await ask(handler.app, "/readyz"))
    assert (status, problem) == (503, "schema")
    assert "tmcp-serverless migrate" in message
    assert (await ask(handler.app, "/healthz")).status == 200
    other = create_handler(server, database_url=empty_database_url)
    assert (await ask(other.app, "/readyz")).status == 200, "it makes them, as the first request would"
    assert (await ask(handler.app, "/readyz")).status == 200
    for each in (handler, other):
        await each.aclose()


async def test_tables_that_are_dropped_later_are_not_ready(server: MCPServer, database_url: str) -> None:
    made = create_handler(server, database_url=database_url)
    assert (await ask(made.app, "/readyz")).status == 200
    await made.aclose()
    handler = create_handler(server, database_url=database_url, create_tables=False)
    assert (await ask(handler.app, "/readyz")).status == 200
    connection = await asyncpg.connect(database_url)
    await connection.execute("DROP TABLE tmcp_schema")
    await connection.close()
    assert said(await ask(handler.app, "/readyz"))[:2] == (503, "schema")
    await handler.aclose()


async def test_a_role_that_may_not_make_tables_is_not_ready_and_the_log_says_what_to_grant(
    server: MCPServer, empty_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with poor_role(empty_database_url) as (role, dsn):
        handler = create_handler(server, database_url=dsn)
        status, problem, message = said(await ask(handler.app, "/readyz"))
        assert (status, problem) == (503, "configuration")
        assert role not in message
        assert f"the role {role} may not" in caplog.text
        with pytest.raises(AssertionError, match="not configured rightly"):
            await Client(handler.app).initialize()
        await execute(empty_database_url, f"GRANT CREATE ON SCHEMA public TO {role}")
        assert (await ask(handler.app, "/readyz")).status == 200
        await handler.aclose()


async def test_a_role_that_may_not_use_the_tables_is_not_ready_before_anybody_initializes(
    server: MCPServer, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await schema.migrate(database_url)
    async with poor_role(database_url) as (role, dsn):
        await execute(database_url, f"GRANT SELECT ON tmcp_schema TO {role}")
        handler = create_handler(server, database_url=dsn)
        assert said(await ask(handler.app, "/readyz"))[:2] == (503, "configuration")
        assert "GRANT DELETE, INSERT, SELECT, UPDATE ON" in caplog.text
        await execute(database_url, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        assert (await ask(handler.app, "/readyz")).status == 200
        await Client(handler.app).initialize()
        await handler.aclose()


async def test_a_database_that_takes_no_writes_is_not_ready(server: MCPServer, database_url: str) -> None:
    handler = create_handler(server, database_url=database_url)
    assert (await ask(handler.app, "/readyz")).status == 200
    name = database_url.rpartition("/")[2]
    change = 'SET transaction_read_only = off; ALTER DATABASE "{}" {} default_transaction_read_only{}'
    await execute(database_url, change.format(name, "SET", " = on"))
    await handler.managers.disconnect()
    assert said(await ask(handler.app, "/readyz"))[:2] == (503, "database")
    await execute(database_url, change.format(name, "RESET", ""))
    assert (await ask(handler.app, "/readyz")).status == 200
    await handler.aclose()


async def test_a_database_that_is_away_is_not_ready_and_heals(
    server: MCPServer, own_postgres: EmbeddedPostgres
) -> None:
    handler = create_handler(server, database_url=own_postgres.dsn)
    assert (await ask(handler.app, "/readyz")).status == 200
    own_postgres.stop_immediately()
    status, problem, message = said(await ask(handler.app, "/readyz"))
    assert (status, problem) == (503, "database")
    assert str(own_postgres.port) not in message, "addresses are for the log"
    assert (await ask(handler.app, "/healthz")).status == 200
    own_postgres.start()
    assert (await ask(handler.app, "/readyz")).status == 200
    await handler.aclose()


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("h/d?sslmode=verify-ca&sslrootcert=/hidden.pem", "is wrong"),
        ("h/d?passfile=/hidden", "is wrong"),
        ("h/d?target_session_attrs=hidden", "does not work"),
        ("h..hidden/d", "is not a Postgres connection string"),
    ],
)
async def test_a_wrong_setting_is_not_ready_and_is_named_without_its_value(
    server: MCPServer, caplog: pytest.LogCaptureFixture, place: str, fault: str
) -> None:
    handler = create_handler(server, database_url=f"postgresql://somebody:secret@{place}")
    status, problem, message = said(await ask(handler.app, "/readyz"))
    assert (status, problem) == (503, "configuration")
    assert message.startswith(f"TMCP_DATABASE_URL {fault};")
    assert "TMCP_DATABASE_URL" in caplog.text
    assert "hidden" not in message
    assert "secret" not in caplog.text + message


async def test_a_database_that_does_not_answer_is_given_up_in_time(
    server: MCPServer, new_handler: NewHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Health, "check_seconds", 0.0)
    handler = new_handler(server)
    monkeypatch.setattr(type(handler.managers.info), "check", unanswered)
    assert said(await ask(handler.app, "/readyz"))[:2] == (503, "database")


async def unanswered(*_: object) -> None:
    raise TimeoutError


async def test_whatever_a_check_raises_is_not_ready(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        raise LookupError("hidden")

    status, problem, message = said(await ask(Health(check, ready_path="/readyz"), "/readyz"))
    assert (status, problem) == (503, "unknown")
    assert "hidden" not in message
    assert "hidden" in caplog.text


async def test_the_database_is_asked_once_a_second_however_many_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Health, "kept_seconds", 60.0)
    asked: list[str] = []

    async def check() -> None:
        asked.append("once")
        raise StoreUnavailableError("away")

    app = Health(check, ready_path="/readyz")
    assert [(await ask(app, "/readyz")).status for _ in range(3)] == [503] * 3
    assert asked == ["once"]
