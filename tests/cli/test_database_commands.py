"""`sweep`, `doctor` and `sessions`: what an operator asks of the configured database."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.cli.support import command, ended
from tests.postgres.test_streams import pgbouncer
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

__all__ = ["pgbouncer"]

UNREACHABLE = "postgresql://nobody:hidden@127.0.0.1:1/x"
RECORD = SessionRecord("2025-11-25", {"name": "small\x1b[31m", "version": "1.2"}, {}, "alice")
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
    assert ended(command(*arguments)) == (2, "", sentence)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_database_that_is_not_there_is_one_sentence_without_its_password(
    arguments: tuple[str, ...],
) -> None:
    code, output, errors = ended(command(*arguments, TMCP_DATABASE_URL=UNREACHABLE))
    [complaint] = [line for line in (output + errors).splitlines() if "cannot connect" in line]
    assert "TMCP_DATABASE_URL" in complaint
    assert (code, "hidden" in output + errors) == (1, False)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_wrong_setting_is_one_sentence(arguments: tuple[str, ...]) -> None:
    code, output, errors = ended(command(*arguments, TMCP_DATABASE_CONNECTIONS="many"))
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
        "INSERT INTO tmcp_session_context (id, principal, protocol_version, initialized, client, updated_at) "
        "SELECT 'old' || n, '', '2025-11-25', true, '[{},{}]', now() - interval '2 days' "
        "FROM generate_series(1, 2500) AS n",
    )
    assert ended(command("sweep", "--limit", "200", TMCP_DATABASE_URL=database_url))[1] == (
        "Removed 200 rows.\n"
    )
    assert ended(command("sweep", "--database-url", database_url)) == (0, "Removed 2300 rows.\n", "")
    assert ended(command("sweep", "--database-url", database_url))[1] == "Removed 0 rows.\n"
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
        "updated_at = now() - interval '90 minutes' WHERE id = 'older';"
        "UPDATE tmcp_session_context SET updated_at = now() - interval '2 days' WHERE id = 'expired'",
    )
    await streams.create("newer", RecordingController())
    await streams.create("newer/in.r1", RecordingController())
    code, output, errors = ended(command("sessions", TMCP_DATABASE_URL=database_url))
    assert (code, errors) == (0, "")
    rows = [re.split(r"  +", line) for line in output.splitlines()]
    assert rows[0] == ["SESSION", "CLIENT", "REVISION", "AGE", "LAST USED", "RUNNING", "STREAM"]
    assert rows[1][:3] == ["newer", "small?[31m 1.2", "2025-11-25"]
    assert rows[1][5] == "1"
    assert re.fullmatch(r"\S+:\d+", rows[1][6])
    assert rows[2] == ["older", "small?[31m 1.2", "2025-11-25", "3 h", "2 h ago", "-", "-"]
    assert len(rows) == 3
    _, output, _ = ended(command("sessions", "--json", "--limit", "1", TMCP_DATABASE_URL=database_url))
    [found] = [json.loads(line) for line in output.splitlines()]
    assert found["id"] == "newer"
    assert found["principal"] == "alice"
    assert found["stream_at"] == rows[1][6]
    assert 0 <= found["idle_seconds"] <= found["age_seconds"] < 60


async def test_a_session_is_deleted_as_its_client_would(
    database_url: str, info: PostgresInfoSessionManager, streams: PostgresStreamSessionManager
) -> None:
    await info.initialize("s", RECORD)
    controller = RecordingController()
    await streams.create("s", controller)
    assert ended(command("sessions", "delete", "s", TMCP_DATABASE_URL=database_url)) == (0, "Deleted.\n", "")
    await controller.until(lambda: controller.closed is CloseReason.DELETED)
    assert await info.load("s", principal="alice") is None
    assert ended(command("sessions", "--database-url", database_url))[1] == "There are no sessions.\n"
    again = ended(command("sessions", "--database-url", database_url, "delete", "s"))
    assert again == (1, "", "Error: There is no session s.\n")


@pytest.mark.parametrize("id", ["-cGx_3", "--limit-7", "-"])
async def test_a_session_whose_id_begins_with_a_hyphen_is_deleted(
    database_url: str, info: PostgresInfoSessionManager, id: str
) -> None:
    await schema.migrate(database_url)
    await info.initialize(id, RECORD)
    deleted = ended(command("sessions", "delete", id, TMCP_DATABASE_URL=database_url))
    assert deleted == (0, "Deleted.\n", "")
    assert await info.load(id, principal="alice") is None


def test_sessions_makes_no_tables(database_url: str) -> None:
    for arguments in COMMANDS[2:]:
        code, _, errors = ended(command(*arguments, TMCP_DATABASE_URL=database_url))
        assert (code, "tmcp-serverless migrate" in errors) == (1, True)


# doctor


def findings(output: str) -> dict[str, tuple[str, str]]:
    matches = [re.fullmatch(r"(ok|note|WRONG) +([^:]+): (.*)", line) for line in output.splitlines()]
    assert all(matches), output
    return {match[2]: (match[1], match[3]) for match in matches if match}


async def test_the_doctor_of_a_healthy_database(database_url: str) -> None:
    await schema.migrate(database_url)
    code, output, errors = ended(command("doctor", TMCP_DATABASE_URL=database_url, TMCP_PATH="/x"))
    found = findings(output)
    assert (code, errors) == (0, "")
    assert {grade for grade, _ in found.values()} == {"ok"}
    assert found["settings"][1] == "database_url is set, path='/x'"
    assert found["database"][1].startswith("PostgreSQL ")
    assert "(TMCP_DATABASE_URL)" in found["database"][1]
    assert re.search(r"[\d.]+ ms", found["latency"][1])
    assert found["pooler"][1] == "none"
    assert found["LISTEN"][1].startswith("delivers after ")
    assert found["tables, info"][1].startswith("version ")
    assert "1min" in found["idle time"][1]


def test_the_doctor_says_what_to_run_where_tables_are_missing(database_url: str) -> None:
    code, output, _ = ended(
        command("doctor", TMCP_DATABASE_URL=database_url, TMCP_CREATE_TABLES="false", TMCP_DOORBELL="poll")
    )
    found = findings(output)
    assert code == 1
    assert found["tables, info"][0] == found["tables, streams"][0] == "WRONG"
    assert found["tables, info"][1].endswith("run `tmcp-serverless migrate`")
    assert found["LISTEN"] == ("ok", "not needed: TMCP_DOORBELL is `poll`")
    code, output, _ = ended(command("doctor", TMCP_DATABASE_URL=database_url))
    assert (code, findings(output)["tables, info"][0]) == (0, "note")


async def test_the_doctor_sees_a_pooler_and_that_listen_does_not_deliver(
    pgbouncer: str, database_url: str
) -> None:
    await schema.migrate(database_url)
    code, output, _ = ended(command("doctor", TMCP_DATABASE_URL=pgbouncer))
    found = findings(output)
    assert (code, found["pooler"][1].startswith("there is one")) == (0, True)
    assert found["LISTEN"][0] == "note"
    assert "TMCP_LISTEN_URL" in found["LISTEN"][1]
    assert found["idle time"][0] == "note"
    code, output, _ = ended(command("doctor", TMCP_DATABASE_URL=pgbouncer, TMCP_DOORBELL="listen"))
    assert (code, findings(output)["LISTEN"][0]) == (1, "WRONG")
    code, output, _ = ended(command("doctor", TMCP_DATABASE_URL=pgbouncer, TMCP_LISTEN_URL=database_url))
    found = findings(output)
    assert (code, found["LISTEN"][0]) == (0, "ok")
    assert "(TMCP_LISTEN_URL)" in found["LISTEN"][1]


def test_the_doctor_sees_that_the_address_to_listen_at_is_another_database(
    database_url: str, postgres_url: str
) -> None:
    code, output, _ = ended(command("doctor", TMCP_DATABASE_URL=database_url, TMCP_LISTEN_URL=postgres_url))
    assert code == 1
    assert findings(output)["LISTEN"] == (
        "WRONG",
        "TMCP_LISTEN_URL is not a direct connection to the same database",
    )


# A role that may do little


@pytest.mark.parametrize("arguments", [("migrate",), ("sweep",)], ids=" ".join)
async def test_a_role_that_may_not_make_tables_is_one_sentence(
    arguments: tuple[str, ...], database_url: str
) -> None:
    async with poor_role(database_url) as (role, dsn):
        code, output, errors = ended(command(*arguments, TMCP_DATABASE_URL=dsn))
    assert (code, output, errors.count("\n")) == (1, "", 1)
    assert errors.startswith(f"Error: the role {role} may not make or change the tables")
    assert "GRANT CREATE" in errors


@pytest.mark.parametrize("arguments", [("migrate",), ("sweep",), ("sessions",)], ids=" ".join)
async def test_tables_that_may_not_be_read_are_one_sentence(
    arguments: tuple[str, ...], database_url: str
) -> None:
    await schema.migrate(database_url)
    async with poor_role(database_url) as (_, dsn):
        code, output, errors = ended(command(*arguments, TMCP_DATABASE_URL=dsn))
    assert (code, output, errors.count("\n")) == (1, "", 1)
    assert re.match(r"Error: the role .*permission denied .*GRANT it SELECT, INSERT", errors)


async def test_the_doctor_of_a_role_that_may_not_make_the_tables(database_url: str) -> None:
    async with poor_role(database_url) as (role, dsn):
        code, output, _ = ended(command("doctor", TMCP_DATABASE_URL=dsn))
        assert code == 1
        for kind in ("streams", "info"):
            grade, said = findings(output)[f"tables, {kind}"]
            assert (grade, "GRANT CREATE ON SCHEMA public TO " + role in said) == ("WRONG", True)
        await execute(database_url, f"GRANT CREATE ON SCHEMA public TO {role}")
        code, output, _ = ended(command("doctor", TMCP_DATABASE_URL=dsn))
        assert (code, findings(output)["tables, info"][0]) == (0, "note")


async def test_the_doctor_of_a_role_that_may_not_use_the_tables(database_url: str) -> None:
    await schema.migrate(database_url)
    async with poor_role(database_url) as (role, dsn):
        code, output, _ = ended(command("doctor", TMCP_DATABASE_URL=dsn))
        assert code == 1
        assert findings(output)["tables, info"][0] == findings(output)["tables, streams"][0] == "WRONG"
        await execute(database_url, f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {role}")
        code, output, _ = ended(command("doctor", TMCP_DATABASE_URL=dsn))
        grade, said = findings(output)["tables, streams"]
        assert (code, grade) == (1, "WRONG")
        assert "may not DELETE, UPDATE" in said
        await execute(database_url, said.partition(": ")[2])
        await execute(database_url, "UPDATE tmcp_schema SET version = 1 WHERE component LIKE 'info%'")
        code, output, _ = ended(command("doctor", TMCP_DATABASE_URL=dsn))
        assert findings(output)["tables, streams"][0] == "ok"
        assert "does not own" in findings(output)["tables, info"][1]


async def test_the_doctor_sees_that_the_database_takes_no_writes(database_url: str) -> None:
    await schema.migrate(database_url)
    name = database_url.rpartition("/")[2]
    await execute(database_url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    code, output, _ = ended(command("doctor", TMCP_DATABASE_URL=database_url))
    grade, said = findings(output)["database"]
    assert (code, grade, "takes no writes" in said) == (1, "WRONG", True)
