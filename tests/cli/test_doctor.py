"""`doctor`: what is configured, what works, and what to do about the rest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.cli.support import command, ended, run, run_aside
from tests.postgres.test_streams import pgbouncer
from tests.support.roles import execute, poor_role
from tmcp_serverless.postgres import schema

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["pgbouncer"]


def findings(output: str) -> dict[str, tuple[str, str]]:
    matches = [re.fullmatch(r"(ok|note|WRONG) +([^:]+): (.*)", line) for line in output.splitlines()]
    assert all(matches), output
    return {match[2]: (match[1], match[3]) for match in matches if match}


async def test_the_doctor_of_a_healthy_database(database_url: str) -> None:
    await schema.migrate(database_url)
    code, output, errors = await run_aside("doctor", TMCP_DATABASE_URL=database_url, TMCP_PATH="/x")
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


def test_the_doctor_says_what_to_run_where_tables_are_missing(empty_database_url: str) -> None:
    code, output, _ = run(
        "doctor", TMCP_DATABASE_URL=empty_database_url, TMCP_CREATE_TABLES="false", TMCP_DOORBELL="poll"
    )
    found = findings(output)
    assert code == 1
    assert found["tables, info"][0] == found["tables, streams"][0] == "WRONG"
    assert found["tables, info"][1].endswith("run `tmcp-serverless migrate`")
    assert found["LISTEN"] == ("ok", "not needed: TMCP_DOORBELL is `poll`")
    code, output, _ = run("doctor", TMCP_DATABASE_URL=empty_database_url)
    assert (code, findings(output)["tables, info"][0]) == (0, "note")


async def test_the_doctor_notes_variables_that_nothing_reads(database_url: str) -> None:
    await schema.migrate(database_url)
    typo = {"TMCP_ALLOWED_HOST": "mcp.example.com", "TMCP_POSTGRES_BIN": "/nowhere"}
    code, output, _ = await run_aside("doctor", folder=None, TMCP_DATABASE_URL=database_url, **typo)
    said = "TMCP_ALLOWED_HOST is no setting; is TMCP_ALLOWED_HOSTS meant?"
    assert (code, findings(output)["environment"]) == (0, ("note", said))
    assert output.count("is no setting") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("TMCP_HEALTH_PATH", "/mcp"), ("TMCP_READY_PATH", "readyz"), ("TMCP_ALLOWED_HOSTS", "https://x.com")],
)
def test_the_doctor_refuses_settings_that_cannot_work(name: str, value: str, database_url: str) -> None:
    code, output, errors = run("doctor", folder=None, TMCP_DATABASE_URL=database_url, **{name: value})
    assert (code, output, errors.startswith(f"Error: {name}: ")) == (2, "", True)


def test_the_doctor_finds_what_logs_and_metrics_need(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if 'powertools' in name else find(name, *rest)\n"
    )
    process = command(
        "doctor", TMCP_DATABASE_URL=database_url, TMCP_METRICS="1", PYTHONPATH=str(tmp_path), folder=tmp_path
    )
    code, output, _ = ended(process)
    grade, said = findings(output)["logs and metrics"]
    assert (code, grade, said.startswith("TMCP_METRICS needs the extra `aws`")) == (1, "WRONG", True)


async def test_the_doctor_sees_a_pooler_and_that_listen_does_not_deliver(
    pgbouncer: str, database_url: str
) -> None:
    await schema.migrate(database_url)
    code, output, _ = await run_aside("doctor", TMCP_DATABASE_URL=pgbouncer)
    found = findings(output)
    assert (code, found["pooler"][1].startswith("there is one")) == (0, True)
    assert found["LISTEN"][0] == "note"
    assert "TMCP_LISTEN_URL" in found["LISTEN"][1]
    assert found["idle time"][0] == "note"
    code, output, _ = await run_aside("doctor", TMCP_DATABASE_URL=pgbouncer, TMCP_DOORBELL="listen")
    assert (code, findings(output)["LISTEN"][0]) == (1, "WRONG")
    code, output, _ = await run_aside("doctor", TMCP_DATABASE_URL=pgbouncer, TMCP_LISTEN_URL=database_url)
    found = findings(output)
    assert (code, found["LISTEN"][0]) == (0, "ok")
    assert "(TMCP_LISTEN_URL)" in found["LISTEN"][1]


def test_the_doctor_sees_that_the_address_to_listen_at_is_another_database(
    database_url: str, postgres_url: str
) -> None:
    code, output, _ = run("doctor", TMCP_DATABASE_URL=database_url, TMCP_LISTEN_URL=postgres_url)
    assert code == 1
    assert findings(output)["LISTEN"] == (
        "WRONG",
        "TMCP_LISTEN_URL is not a direct connection to the same database",
    )


# A role that may do little


async def test_the_doctor_of_a_role_that_may_not_make_the_tables(empty_database_url: str) -> None:
    async with poor_role(empty_database_url) as (role, dsn):
        code, output, _ = await run_aside("doctor", TMCP_DATABASE_URL=dsn)
        assert code == 1
        for kind in ("streams", "info"):
            grade, said = findings(output)[f"tables, {kind}"]
            assert (grade, "GRANT CREATE ON SCHEMA public TO " + role in said) == ("WRONG", True)
        await execute(empty_database_url, f"GRANT CREATE ON SCHEMA public TO {role}")
        code, output, _ = await run_aside("doctor", TMCP_DATABASE_URL=dsn)
        assert (code, findings(output)["tables, info"][0]) == (0, "note")


async def test_the_doctor_of_a_role_that_may_not_use_the_tables(database_url: str) -> None:
    await schema.migrate(database_url)
    async with poor_role(database_url) as (role, dsn):
        code, output, _ = await run_aside("doctor", TMCP_DATABASE_URL=dsn)
        assert code == 1
        assert findings(output)["tables, info"][0] == findings(output)["tables, streams"][0] == "WRONG"
        await execute(database_url, f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {role}")
        code, output, _ = await run_aside("doctor", TMCP_DATABASE_URL=dsn)
        grade, said = findings(output)["tables, streams"]
        assert (code, grade) == (1, "WRONG")
        assert "may not DELETE, UPDATE" in said
        await execute(database_url, said.partition(": ")[2])
        await execute(database_url, "UPDATE tmcp_schema SET version = 0 WHERE component LIKE 'info%'")
        code, output, _ = await run_aside("doctor", TMCP_DATABASE_URL=dsn)
        assert findings(output)["tables, streams"][0] == "ok"
        assert "does not own" in findings(output)["tables, info"][1]


async def test_the_doctor_sees_that_the_database_takes_no_writes(database_url: str) -> None:
    await schema.migrate(database_url)
    name = database_url.rpartition("/")[2]
    await execute(database_url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    code, output, _ = await run_aside("doctor", TMCP_DATABASE_URL=database_url)
    grade, said = findings(output)["database"]
    assert (code, grade, "takes no writes" in said) == (1, "WRONG", True)
