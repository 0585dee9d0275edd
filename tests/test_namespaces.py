"""Servers of different names on one database: clients have and hear their own server's alone."""

from __future__ import annotations

import io
import json
import logging
from contextlib import AsyncExitStack, redirect_stdout
from typing import Any

import pytest
from fastmcp import FastMCP
from mcp.server import MCPServer
from mcp.server.lowlevel import Server

from tests.support.client import Client
from tests.support.fixtures import NewHandler, postgres_managers
from tests.support.modern import ModernClient, methods
from tmcp_serverless import (
    ConfigurationError,
    Handler,
    InMemoryInfoSessionManager,
    InMemoryStreamSessionManager,
    Notifier,
    PostgresStreamSessionManager,
    PostgresSubscriptionBus,
    SessionManagers,
    Settings,
    create_handler,
)
from tmcp_serverless.sdk.server_kind import namespace_of

NEWS = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"


def server(name: str, **options: Any) -> MCPServer:
    made = MCPServer(name, **options)

    @made.resource("notes://one")
    def note() -> str:
        return name

    @made.tool()
    def who() -> str:
        return name

    return made


def heard(exchange: Any) -> list[str]:
    return [message["method"] for message in exchange.messages if "method" in message]


# Which namespace a server has


class Orders(FastMCP[Any]):
    pass


@pytest.mark.parametrize(
    ("made", "namespace"),
    [
        (lambda: MCPServer("orders"), "orders"),
        (MCPServer, "default"),
        (lambda: Server("orders"), "orders"),
        (lambda: Server(""), "default"),
        (lambda: FastMCP("orders"), "orders"),
        (lambda: FastMCP("orders-cafe"), "orders-cafe"),
        (FastMCP, "default"),
        (Orders, "default"),
        (lambda: Orders("Größe: a/b"), "Größe: a/b"),
        (lambda: FastMCP(FastMCP.generate_name("orders")), "orders"),
        (lambda: Orders(Orders.generate_name("a-b")), "a-b"),
    ],
)
def test_a_servers_name_is_its_namespace_and_a_made_up_one_is_not(made: Any, namespace: str) -> None:
    assert namespace_of(made()) == namespace


def test_a_name_that_cannot_be_one_is_told_with_the_setting(database_url: str) -> None:
    for name in ("a\nb", "x" * 129):
        with pytest.raises(ConfigurationError, match="TMCP_NAMESPACE"):
            create_handler(MCPServer(name), database_url=database_url)
        handler = create_handler(MCPServer(name), database_url=database_url, namespace="orders")
        assert handler.managers.namespace == "orders"
        create_handler(MCPServer(name))


def test_the_namespace_is_told_once_with_where_it_comes_from(
    database_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.INFO, "tmcp_serverless"):
        create_handler(MCPServer("orders"), database_url=database_url)
        monkeypatch.setenv("TMCP_NAMESPACE", "shop")
        create_handler(MCPServer("orders"), database_url=database_url)
    assert [record.getMessage() for record in caplog.records if "namespace" in record.getMessage()] == [
        "the namespace in the database is 'orders' (the server's name)",
        "the namespace in the database is 'shop' (TMCP_NAMESPACE)",
    ]


@pytest.mark.parametrize("name", ["", " ", "a\tb", "x" * 129])
def test_a_setting_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^namespace: a namespace has"):
        Settings(namespace=name)
    if name:
        with pytest.raises(ConfigurationError, match=r"^TMCP_NAMESPACE: a namespace has"):
            Settings.load(environment={"TMCP_NAMESPACE": name})


def test_the_schema_is_a_setting_as_any_other() -> None:
    settings = Settings.load(environment={"TMCP_SCHEMA": "tenant"})
    assert settings.but(path="/x").schema_name == Settings(schema="tenant").schema_name == "tenant"
    with pytest.raises(ConfigurationError, match=r"^TMCP_SCHEMA: 'a\.b' is no schema"):
        Settings.load(environment={"TMCP_SCHEMA": "a.b"})


def test_managers_that_are_given_have_a_namespace_already(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    managers = postgres_managers(database_url, streams={"namespace": "red"}, info={"namespace": "red"})
    assert create_handler(server("blue"), session_manager=managers).managers.namespace == "red"
    create_handler(server("blue"), session_manager=managers, namespace="red")
    with pytest.raises(ConfigurationError, match=r"'red'.*'blue'"):
        create_handler(server("blue"), session_manager=managers, namespace="blue")
    mixed = postgres_managers(database_url, streams={"namespace": "red"}, info={"namespace": "blue"})
    with pytest.raises(ConfigurationError, match="several namespaces"):
        create_handler(server("blue"), session_manager=mixed)
    memory = SessionManagers(streams=InMemoryStreamSessionManager(), info=InMemoryInfoSessionManager())
    create_handler(server("blue"), session_manager=memory, namespace="blue")
    create_handler(server("blue"), namespace="blue")
    assert [each.getMessage() for each in caplog.records if "of no use" in each.getMessage()] == [
        "namespace='blue' is of no use: the session managers have none",
        (
            "TMCP_DATABASE_URL is not set: sessions stay in the memory of this process, "
            "and TMCP_NAMESPACE is of no use"
        ),
    ]


# Two servers, three instances


async def test_clients_of_two_servers_have_nothing_of_each_other(new_postgres_handler: NewHandler) -> None:
    red = [new_postgres_handler(server("red")) for _ in range(2)]
    blue = new_postgres_handler(server("blue"))
    of_red = await Client(*(each.app for each in red)).initialize()
    of_blue = await Client(blue.app).initialize()
    for client in (of_red, of_blue):
        await client.result("resources/subscribe", {"uri": "notes://one"})
    stranger = Client(blue.app)
    stranger.session = of_red.session
    for exchange in (await stranger.ask("tools/list"), await stranger.delete()):
        assert exchange.status == 404
    async with of_red.listen() as one, of_blue.listen() as other:
        await red[0].notifier.tools_changed()
        await red[1].notifier.resource_updated("notes://one")
        await one.count(2)
        await blue.notifier.prompts_changed()
        await other.count(1)
        assert sorted(heard(one)) == [UPDATED, NEWS]
        assert heard(other) == ["notifications/prompts/list_changed"]
    for _ in range(2):
        assert await of_red.call("who") == "red"
    assert await of_blue.call("who") == "blue"


async def test_listen_streams_of_two_servers_hear_their_own(new_postgres_handler: NewHandler) -> None:
    red, blue = (new_postgres_handler(server(name)) for name in ("red", "blue"))
    wanted = {"notifications": {"toolsListChanged": True, "promptsListChanged": True}}
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(ModernClient(each.app).asking("subscriptions/listen", wanted))
            for each in (red, blue)
        ]
        await one.count(1)
        await other.count(1)
        await red.notifier.tools_changed()
        await one.count(2)
        await blue.notifier.prompts_changed()
        await other.count(2)
        assert methods(one)[1:] == [NEWS]
        assert methods(other)[1:] == ["notifications/prompts/list_changed"]


async def test_a_server_that_is_renamed_keeps_its_sessions_where_the_namespace_is_set(
    new_postgres_handler: NewHandler,
) -> None:
    client = await Client(new_postgres_handler(server("old"), namespace="ours").app).initialize()
    for renamed, status in (({"namespace": "ours"}, 200), ({}, 404)):
        again = Client(new_postgres_handler(server("new"), **renamed).app)
        again.session = client.session
        assert (await again.ask("tools/list")).status == status


async def test_unnamed_fastmcps_are_one_server_in_every_process(new_postgres_handler: NewHandler) -> None:
    first, second = (new_postgres_handler(FastMCP()) for _ in range(2))
    client = await Client(first.app, second.app).initialize()
    for _ in range(2):
        assert (await client.ask("tools/list")).status == 200


async def test_a_bus_of_ones_own_that_is_in_another_namespace_is_told(
    database_url: str, new_postgres_handler: NewHandler, caplog: pytest.LogCaptureFixture
) -> None:
    for namespace, told in (("red", 0), ("default", 1)):
        async with PostgresSubscriptionBus(database_url, namespace=namespace) as bus:
            handler = new_postgres_handler(server("red", subscriptions=bus))
            await ModernClient(handler.app).ask("tools/list")
        assert sum("another namespace" in each.getMessage() for each in caplog.records) == told


# Who is told by a notifier


async def initialized(database_url: str, name: str, stack: AsyncExitStack) -> tuple[Handler, Client]:
    handler = await stack.enter_async_context(create_handler(server(name), database_url=database_url))
    client = await Client(handler.app).initialize()
    await client.result("resources/subscribe", {"uri": "notes://one"})
    return handler, client


async def test_a_notifier_needs_no_namespace_where_there_is_one(database_url: str) -> None:
    async with AsyncExitStack() as stack, Notifier(database_url) as notifier:
        await notifier.tools_changed()  # nobody is there
        await notifier.resource_updated("notes://one")
        _, client = await initialized(database_url, "red", stack)
        await notifier.prompts_changed()
        await notifier.resource_updated("notes://one")
        async with client.listen() as stream:
            await stream.count(2)
            assert sorted(heard(stream)) == ["notifications/prompts/list_changed", UPDATED]


async def test_a_notifier_has_to_say_which_of_several(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        _, red = await initialized(database_url, "red", stack)
        _, blue = await initialized(database_url, "blue: 'x'", stack)
        async with Notifier(database_url) as notifier:
            for telling in (notifier.tools_changed(), notifier.resource_updated("notes://one")):
                with pytest.raises(
                    ConfigurationError, match=r"namespaces \"blue: 'x'\", 'red'.*TMCP_NAMESPACE"
                ):
                    await telling
        async with Notifier(database_url, namespace="red") as notifier:
            await notifier.tools_changed()
            await notifier.resource_updated("notes://one")
        monkeypatch.setenv("TMCP_NAMESPACE", "blue: 'x'")
        async with Notifier(database_url) as notifier:
            await notifier.prompts_changed()
        async with red.listen() as one, blue.listen() as other:
            await one.count(2)
            await other.count(1)
            assert sorted(heard(one)) == [UPDATED, NEWS]
            assert heard(other) == ["notifications/prompts/list_changed"]


def test_a_notifier_over_managers_is_in_their_namespace(database_url: str) -> None:
    streams = PostgresStreamSessionManager(database_url, namespace="red")
    managers = SessionManagers(streams=streams, info=InMemoryInfoSessionManager())
    Notifier(managers, namespace="red")
    with pytest.raises(ConfigurationError, match=r"'red'.*'blue'"):
        Notifier(managers, namespace="blue")
    with pytest.raises(ConfigurationError, match=r"^namespace: a namespace has"):
        Notifier(database_url, namespace="")


# What operators see


async def test_metrics_have_the_namespace_as_a_dimension(new_postgres_handler: NewHandler) -> None:
    written = io.StringIO()
    with redirect_stdout(written):
        handler = new_postgres_handler(server("Größe"), metrics=True, log_format="plain")
        await Client(handler.app).initialize()
    lines = [json.loads(line) for line in written.getvalue().splitlines() if line.startswith("{")]
    assert lines
    for line in lines:
        assert line["namespace"] == "Gr%C3%B6%C3%9Fe"
        [metrics] = line["_aws"]["CloudWatchMetrics"]
        assert "namespace" in metrics["Dimensions"][0]
