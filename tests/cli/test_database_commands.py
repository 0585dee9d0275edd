"""What an operator asks of the configured database: `sweep` and `sessions`; `doctor` is in `test_doctor`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.support import run, run_aside
from tests.support.fixtures import postgres_managers
from tests.support.roles import execute, poor_role
from tmcp_serverless import (
    CloseReason,
    PostgresInfoSessionManager,
    PostgresStreamSessionManager,
    SessionRecord,
)
from tmcp_serverless.postgres import schema
from tmcp_serverless.testing.contracts import RecordingController

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

UNREACHABLE = "postgresql://nobody:hidden@127.0.0.1:1/x"
RECORD = SessionRecord(
    protocol_version="2025-11-25",
    client_info={"name": "small\x1b[31m", "version": "1.2"},
    client_capabilities={},
    principal="alice",
)
COMMANDS = [("sweep",), ("doctor",), ("sessions",), ("sessions", "delete", "x")]


@pytest.fixture
async def info(database_url: str) -> AsyncGenerator[PostgresInfoSessionManager]:
    async with PostgresInfoSessionManager(database_url) as info:
        yield info


@pytest.fixture
async def streams(database_url: str) -> AsyncGenerator[PostgresStreamSessionManager]:
    async with PostgresStreamSessionManager(database_url) as streams:
        yield streams


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_without_a_database_the_commands_say_which_variable(arguments: tuple[str, ...]) -> None:
    sentence = "Error: There is no database: set TMCP_DATABASE_URL, or pass --database-url.\n"
    assert run(*arguments) == (2, "", sentence)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_database_that_is_not_there_is_one_sentence_without_its_password(
    arguments: tuple[str, ...],
) -> None:
    code, output, errors = run(*arguments, TMCP_DATABASE_URL=UNREACHABLE)
    [complaint] = [line for line in (output + errors).splitlines() if "cannot connect" in line]
    assert "TMCP_DATABASE_URL" in complaint
    assert (code, "hidden" in output + errors) == (1, False)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_wrong_setting_is_one_sentence(arguments: tuple[str, ...]) -> None:
    code, output, errors = run(*arguments, TMCP_DATABASE_CONNECTIONS="many")
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("Error: TMCP_DATABASE_CONNECTIONS: Input should be a valid integer")


# sweep


async def test_sweep_removes_what_has_expired_in_as_many_batches_as_it_takes(
    database_url: str, info: PostgresInfoSessionManager, streams: PostgresStreamSessionManager
) -> None:
    await info.initialize("live", RECORD)
    await streams.send(["live"], "x")
    await execute(
        database_url,
        "INSERT INTO tmcp_session_context (id, principal, protocol_version, initialized, client_info, "
        "client_capabilities, idle_seconds, updated_at) "
        "SELECT 'default:old' || n, '', '2025-11-25', true, '{}', '{}', 86400, now() - interval '2 days' "
        "FROM generate_series(1, 2500) AS n",
    )
    assert (await run_aside("sweep", "--limit", "200", TMCP_DATABASE_URL=database_url))[1] == (
        "Removed 200 rows. There may be more: this was the limit.\n"
    )
    assert await run_aside("sweep", "--database-url", database_url) == (0, "Removed 2300 rows.\n", "")
    assert (await run_aside("sweep", "--database-url", database_url))[1] == "Removed 0 rows.\n"
    assert await info.load("live", principal="alice") is not None


# sessions


async def test_sessions_are_listed_the_last_used_first_and_with_where_their_streams_are(
    database_url: str, info: PostgresInfoSessionManager, streams: PostgresStreamSessionManager
) -> None:
    for name in ("expired", "older", "newer"):
        await info.initialize(name, RECORD)
    await execute(
        database_url,
        "UPDATE tmcp_session_context SET created_at = now() - interval '3 hours', "
        "updated_at = now() - interval '90 minutes' WHERE id = 'default:older';"
        "UPDATE tmcp_session_context SET updated_at = now() - interval '2 days' WHERE id = 'default:expired'",
    )
    await streams.create("newer", RecordingController())
    await streams.create("newer/in.r1", RecordingController())
    code, output, errors = await run_aside("sessions", TMCP_DATABASE_URL=database_url)
    assert (code, errors) == (0, "")
    rows = [re.split(r"  +", line) for line in output.splitlines()]
    assert rows[0] == ["NAMESPACE", "SESSION", "CLIENT", "REVISION", "AGE", "LAST USED", "RUNNING", "STREAM"]
    assert rows[1][:4] == ["default", "newer", "small?[31m 1.2", "2025-11-25"]
    assert rows[1][6] == "1"
    assert re.fullmatch(r"\S+:\d+", rows[1][7])
    assert rows[2] == ["default", "older", "small?[31m 1.2", "2025-11-25", "3 h", "2 h ago", "-", "-"]
    assert len(rows) == 3
    _, output, _ = await run_aside("sessions", "--json", "--limit", "1", TMCP_DATABASE_URL=database_url)
    [found] = [json.loads(line) for line in output.splitlines()]
    assert (found["namespace"], found["id"]) == ("default", "newer")
    assert found["principal"] == "alice"
    assert found["stream_at"] == rows[1][7]
    assert 0 <= found["idle_seconds"] <= found["age_seconds"] < 60


async def test_a_session_is_deleted_as_its_client_would(
    database_url: str, info: PostgresInfoSessionManager, streams: PostgresStreamSessionManager
) -> None:
    await info.initialize("s", RECORD)
    controller = RecordingController()
    await streams.create("s", controller)
    assert await run_aside("sessions", "delete", "s", TMCP_DATABASE_URL=database_url) == (0, "Deleted.\n", "")
    await controller.until(lambda: controller.closed is CloseReason.DELETED)
    assert await info.load("s", principal="alice") is None
    assert (await run_aside("sessions", "--database-url", database_url))[1] == "There are no sessions.\n"
    again = await run_aside("sessions", "--database-url", database_url, "delete", "s")
    assert again == (1, "", "Error: There is no session s.\n")


@pytest.mark.parametrize("id", ["-cGx_3", "--limit-7", "-"])
async def test_a_session_whose_id_begins_with_a_hyphen_is_deleted(
    database_url: str, info: PostgresInfoSessionManager, id: str
) -> None:
    await schema.migrate(database_url)
    await info.initialize(id, RECORD)
    deleted = await run_aside("sessions", "delete", id, TMCP_DATABASE_URL=database_url)
    assert deleted == (0, "Deleted.\n", "")
    assert await info.load(id, principal="alice") is None


@pytest.mark.parametrize("id", ["", "/broadcast", "/events", "s/in.r1", "ä", "s t"])
async def test_what_is_no_sessions_id_deletes_nothing(
    id: str, database_url: str, streams: PostgresStreamSessionManager
) -> None:
    """The topic of all sessions has an address that begins with nothing and a slash."""
    await streams.prepare("s")
    await streams.send(None, "first")
    deleted = await run_aside("sessions", "delete", id, TMCP_DATABASE_URL=database_url)
    assert deleted == (1, "", f"Error: There is no session {id}.\n")
    controller = RecordingController()
    await streams.create("s", controller)
    await streams.send(None, "second")
    await controller.until(lambda: [event.data for event in controller.events] == ["first", "second"])


def test_the_help_of_sessions_delete_needs_no_database() -> None:
    code, output, errors = run("sessions", "delete", "--help")
    assert (code, errors, "--database-url" in output) == (0, "", True)


@pytest.mark.parametrize("id", ["s", "-h1", "--database"])
async def test_sessions_delete_takes_the_address_behind_the_id(
    id: str, database_url: str, info: PostgresInfoSessionManager
) -> None:
    await schema.migrate(database_url)
    await info.initialize(id, RECORD)
    deleted = await run_aside("sessions", "delete", id, "--database-url", database_url)
    assert deleted == (0, "Deleted.\n", "")
    assert await info.load(id, principal="alice") is None


def test_sessions_makes_no_tables(empty_database_url: str) -> None:
    for arguments in COMMANDS[2:]:
        code, _, errors = run(*arguments, TMCP_DATABASE_URL=empty_database_url)
        assert (code, "tmcp-serverless migrate" in errors) == (1, True)


# --database-url


@pytest.mark.parametrize("arguments", [("migrate",), *COMMANDS], ids=" ".join)
def test_the_address_that_is_given_is_the_one_that_is_used_whatever_the_environment_says(
    arguments: tuple[str, ...], database_url: str
) -> None:
    elsewhere = {"TMCP_DATABASE_NAME": "elsewhere", "TMCP_LISTEN_URL": UNREACHABLE}
    given = ("--database-url", database_url)
    assert run("migrate", *given, folder=None, **elsewhere)[0] == 0
    code, output, errors = run(*arguments, *given, folder=None, TMCP_DATABASE_URL=UNREACHABLE, **elsewhere)
    assert (code, errors) in ((0, ""), (1, "Error: There is no session x.\n")), output + errors
    assert "WRONG" not in output
    assert f"{database_url.rpartition('/')[2]} at" in output or arguments != ("doctor",)


@pytest.mark.parametrize("arguments", [("migrate",), *COMMANDS], ids=" ".join)
def test_an_error_about_the_address_that_is_given_says_so(arguments: tuple[str, ...]) -> None:
    for address, complaint in (
        (UNREACHABLE, "cannot connect to the database in --database-url"),
        ("garbage", "--database-url: it is not a Postgres connection string"),
    ):
        code, output, errors = run(*arguments, "--database-url", address)
        assert code in (1, 2)
        assert complaint in output + errors
        assert "TMCP_DATABASE_URL" not in output + errors


# A role that may do little


@pytest.mark.parametrize("arguments", [("migrate",), ("sweep",)], ids=" ".join)
async def test_a_role_that_may_not_make_tables_is_one_sentence(
    arguments: tuple[str, ...], empty_database_url: str
) -> None:
    async with poor_role(empty_database_url) as (role, dsn):
        code, output, errors = await run_aside(*arguments, TMCP_DATABASE_URL=dsn)
    assert (code, output, errors.count("\n")) == (1, "", 1)
    assert errors.startswith(f"Error: the role {role} may not make or change the tables")
    assert "GRANT CREATE" in errors


@pytest.mark.parametrize("arguments", [("migrate",), ("sweep",), ("sessions",)], ids=" ".join)
async def test_tables_that_may_not_be_read_are_one_sentence(
    arguments: tuple[str, ...], database_url: str
) -> None:
    await schema.migrate(database_url)
    async with poor_role(database_url) as (_, dsn):
        code, output, errors = await run_aside(*arguments, TMCP_DATABASE_URL=dsn)
    assert (code, output, errors.count("\n")) == (1, "", 1)
    assert re.match(r"Error: the role .*permission denied .*GRANT it SELECT, INSERT", errors)


# Namespaces and schemas


async def test_sessions_are_listed_and_deleted_by_namespace(database_url: str) -> None:
    odd = "Größe: 'x'"
    async with (
        postgres_managers(database_url, streams={"namespace": odd}, info={"namespace": odd}) as one,
        postgres_managers(database_url, streams={"namespace": "red"}, info={"namespace": "red"}) as other,
    ):
        for managers in (one, other):
            await managers.info.initialize("s", RECORD)
        controller = RecordingController()
        await one.streams.create("s", controller)
        given: dict[str, Any] = {"TMCP_DATABASE_URL": database_url}
        _, output, _ = await run_aside("sessions", **given)
        assert sorted(re.split(r"  +", line)[0] for line in output.splitlines()[1:]) == [odd, "red"]
        _, output, _ = await run_aside("sessions", "--namespace", odd, "--json", **given)
        assert [(each["namespace"], each["id"]) for each in map(json.loads, output.splitlines())] == [
            (odd, "s")
        ]
        assert (await run_aside("sessions", "--namespace", "none", **given))[1] == "There are no sessions.\n"
        code, output, errors = await run_aside("sessions", "delete", "s", **given)
        assert (code, output) == (1, "")
        assert "choose one with --namespace" in errors
        again = await run_aside("sessions", "delete", "s", "--namespace", "none", **given)
        assert again == (1, "", "Error: There is no session s.\n")
        assert (await run_aside("sessions", "delete", "s", "--namespace", odd, **given))[1] == "Deleted.\n"
        assert await controller.end() is CloseReason.DELETED
        assert await one.info.load("s", principal="alice") is None
        assert await other.info.load("s", principal="alice") is not None
        # Now there is one of this id left.
        assert (await run_aside("sessions", "delete", "s", **given))[1] == "Deleted.\n"
        assert await other.info.load("s", principal="alice") is None
    refused = await run_aside("sessions", "--namespace", "", **given)
    assert (refused[0], "a namespace has 1 to 128 characters" in refused[2]) == (2, True)


async def test_every_command_works_on_the_schema_that_is_set(empty_database_url: str) -> None:
    given: dict[str, Any] = {"TMCP_DATABASE_URL": empty_database_url, "TMCP_SCHEMA": "Its Own"}
    options: dict[str, Any] = {"schema": "Its Own", "create": False}
    assert (await run_aside("migrate", **given))[0] == 0
    async with postgres_managers(empty_database_url, streams=options, info=options) as managers:
        await managers.info.initialize("s", RECORD)
        assert "s" in (await run_aside("sessions", **given))[1]
        assert await run_aside("sweep", **given) == (0, "Removed 0 rows.\n", "")
        code, output, _ = await run_aside("doctor", **given)
        assert (code, "ok     schema: 'Its Own'" in output) == (0, True)
        assert "ok     namespace: the name of each server; in the database: 'default'" in output
        assert (await run_aside("sessions", "delete", "s", **given))[1] == "Deleted.\n"
    assert (await run_aside("migrate", **given))[1] == "Everything is up to date.\n"
    script = (await run_aside("migrate", "--print", **given))[1]
    assert (script.count('CREATE SCHEMA IF NOT EXISTS "Its Own";'), '"public"' in script) == (1, False)
    await execute(empty_database_url, 'DROP SCHEMA "Its Own" CASCADE')
    assert (await run_aside("sweep", TMCP_CREATE_TABLES="0", **given))[0] == 1
    again = await run_aside("sweep", TMCP_CREATE_TABLES="0", TMCP_DATABASE_URL=empty_database_url)
    assert (again[0], "'public'" in again[2]) == (1, True), "nothing was made anywhere else"


def test_the_doctor_tells_a_schema_that_is_not_there_and_the_namespace_that_is_set(
    empty_database_url: str,
) -> None:
    given: dict[str, Any] = {"TMCP_SCHEMA": "nowhere", "TMCP_NAMESPACE": "red", "TMCP_CREATE_TABLES": "0"}
    code, output, _ = run("doctor", TMCP_DATABASE_URL=empty_database_url, **given)
    assert (code, "WRONG  tables, info: version 0" in output) == (1, True)
    assert "ok     namespace: 'red'" in output
