"""A `Notifier` of one's own: which database it is for, what it refuses, and its end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.activity import connections
from tests.support.waiting import eventually
from tmcp_serverless import (
    ConfigurationError,
    InMemoryInfoSessionManager,
    InMemoryStreamSessionManager,
    Notifier,
    SessionManagers,
    StoreUnavailableError,
    TmcpError,
)

NEWS = {"method": "notifications/tools/list_changed"}
NOWHERE = "postgresql://nobody@127.0.0.1:1/x"


def in_memory() -> Notifier:
    return Notifier(
        SessionManagers(streams=InMemoryStreamSessionManager(), info=InMemoryInfoSessionManager())
    )


@pytest.mark.parametrize("sessions", ["one", b"one"])
async def test_one_id_instead_of_a_list_is_refused(sessions: Any) -> None:
    with pytest.raises(TmcpError, match="one session is a list of one id"):
        await in_memory().send(sessions, NEWS)


def test_without_a_database_there_is_nobody_to_be_told() -> None:
    with pytest.raises(ConfigurationError, match="there is no database: give Notifier a connection string"):
        Notifier("")


async def test_an_empty_string_stands_for_the_database_of_the_environment(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMCP_DATABASE_URL", database_url)
    async with Notifier("") as notifier:
        await notifier.tools_changed()


async def test_a_notifier_that_is_closed_opens_no_connection_again(database_url: str) -> None:
    async with Notifier(database_url) as notifier:
        await notifier.tools_changed()

    async def none_are_open() -> bool:
        return not await connections(database_url)

    await eventually(none_are_open)
    for call in (
        notifier.tools_changed,
        lambda: notifier.resource_updated("x"),
        lambda: notifier.send([], NEWS),
    ):
        with pytest.raises(TmcpError, match="closed"):
            await call()
    await notifier.aclose()
    assert await none_are_open()


async def test_managers_that_were_given_stay_open_and_so_does_the_notifier() -> None:
    notifier = in_memory()
    await notifier.aclose()
    await notifier.tools_changed()


async def test_the_string_names_the_database_and_no_other_variable_does(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMCP_DATABASE_NAME", "elsewhere")
    monkeypatch.setenv("TMCP_LISTEN_URL", NOWHERE)
    async with Notifier(database_url) as notifier:
        await notifier.tools_changed()


async def test_an_error_says_that_it_was_the_notifiers_own_string() -> None:
    async with Notifier(NOWHERE) as notifier:
        with pytest.raises(StoreUnavailableError, match="the database in Notifier's target"):
            await notifier.tools_changed()
    with pytest.raises(
        ConfigurationError, match=r"^Notifier's target: it is not a Postgres connection string"
    ):
        Notifier("garbage")
