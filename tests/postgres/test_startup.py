"""How a connection starts: what is refused there costs that alone, and an account's closed home nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

import pytest

from tests.support.relay import relay
from tmcp_serverless import ConfigurationError, Database, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES = (
    *("idle_session_timeout", "client_connection_check_interval", "tcp_user_timeout", "tcp_keepalives_idle"),
    *("tcp_keepalives_interval", "default_transaction_isolation"),
)
OF_POSTGRES_14 = ("idle_session_timeout", "client_connection_check_interval")
NEVER_SENT = frozenset({"user", "database", "client_encoding", "application_name", "synchronous_commit"})


async def settings(database: Database) -> dict[str, str]:
    """Return what the session's settings are, where a client has set them."""
    sql = "SELECT name, setting FROM pg_settings WHERE source = 'client' AND name = ANY ($1::text[])"
    return {row[0]: row[1] for row in await database.fetch(sql, list(NAMES), idempotent=True)}


@pytest.mark.parametrize(
    ("refused", "wording", "code"),
    [
        (OF_POSTGRES_14, 'unrecognized configuration parameter "{}"', "42704"),
        (OF_POSTGRES_14, "Konfigurationsparameter »{}« wird nicht erkannt", "42704"),
        (("idle_session_timeout", "tcp_user_timeout"), "unsupported startup parameter: {}", "08P01"),
        (("tcp_keepalives_idle",), "unsupported startup parameter in options: {}", "08P01"),
        (("client_connection_check_interval",), "{} must be set to 0 on this platform", "22023"),
        (("default_transaction_isolation",), 'permission denied to set parameter "{}"', "42501"),
        (NAMES, "unsupported startup parameter: {}", "08P01"),
    ],
)
async def test_only_what_is_refused_is_left_out(
    database_url: str, refused: tuple[str, ...], wording: str, code: str
) -> None:
    attempts = 0

    def judge(said: Mapping[str, str]) -> tuple[str, str] | None:
        nonlocal attempts
        attempts += 1
        found = [name for name in refused if name in said]
        return (code, wording.format(found[0])) if found else None

    async with relay(database_url, judge=judge) as url:
        database = Database(url)
        assert set(await settings(database)) == {*NAMES} - {*refused}
        most = 4 if code == "08P01" else len(refused)
        assert attempts == min(len(refused), most) + 1
        await database.aclose()
        await settings(database)
        assert attempts == min(len(refused), most) + 2, "it is remembered"
        await database.aclose()


async def test_a_pooler_that_does_not_say_which_one_costs_two_attempts_more(database_url: str) -> None:
    seen: list[set[str]] = []

    def judge(said: Mapping[str, str]) -> tuple[str, str] | None:
        seen.append({*said} & {*NAMES})
        return ("0A000", "that is not supported here") if seen[-1] else None

    async with relay(database_url, judge=judge) as url:
        database = Database(url)
        assert await settings(database) == {}
        assert seen == [{*NAMES}, {"default_transaction_isolation"}, set()]
        await database.aclose()


@pytest.mark.parametrize(
    ("code", "message"), [("42704", 'unrecognized configuration parameter "{}"'), ("08P01", "no: {}")]
)
async def test_a_keyword_of_the_string_is_never_left_out(database_url: str, code: str, message: str) -> None:
    def judge(said: Mapping[str, str]) -> tuple[str, str] | None:
        return (
            (code, f"unsupported startup parameter: {message.format('work_mem')}")
            if "work_mem" in said
            else None
        )

    async with relay(database_url, judge=judge) as url:
        with pytest.raises(ConfigurationError, match=r"TMCP_DATABASE_URL.*work_mem"):
            await Database(f"{url}?work_mem=1MB").fetchrow("SELECT 1", idempotent=True)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("53300", "sorry, too many clients already"),
        ("08P01", "no more connections allowed (max_client_conn)"),
        ("XX000", "MaxClientsInSessionMode: max clients reached"),
    ],
)
async def test_a_full_server_is_asked_once(database_url: str, code: str, message: str) -> None:
    asked = 0

    def judge(_: Mapping[str, str]) -> tuple[str, str]:
        nonlocal asked
        asked += 1
        return code, message

    async with relay(database_url, judge=judge) as url:
        with pytest.raises(StoreUnavailableError, match="grants no further connection"):
            await Database(url).fetchrow("SELECT 1", idempotent=True)
    assert asked == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("08P01", "no such database: orders"),
        ("08P01", "SASL authentication failed"),
        ("28P01", "password authentication failed"),
        ("3D000", 'database "orders" does not exist'),
    ],
)
async def test_what_no_later_attempt_changes_is_a_setting(database_url: str, code: str, message: str) -> None:
    async with relay(database_url, judge=lambda _: (code, message)) as url:
        with pytest.raises(ConfigurationError, match="TMCP_DATABASE_URL does not work"):
            await Database(url).fetchrow("SELECT 1", idempotent=True)


CONNECT = """\
import asyncio, os, sys
from tmcp_serverless import Database
async def main(url):
    database = Database(url)
    await database.fetchrow("SELECT 1", idempotent=True)
    await database.aclose()
async def both():
    await main(sys.argv[1])  # Everything is imported.
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    os.environ["HOME"] = sys.argv[2]
    os.environ.pop("PGPASSFILE", None)
    await main(sys.argv[1] + sys.argv[3])
asyncio.run(both())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another account")
@pytest.mark.parametrize("query", ["", "?sslmode=prefer", "?sslmode=allow", "?sslmode=disable"])
@pytest.mark.parametrize("kind", ["closed", "closed folder", "closed password file", "none"])
def test_files_that_cannot_be_looked_at_are_passed_over(
    database_url: str, tmp_path: Path, query: str, kind: str
) -> None:
    home = tmp_path / "home"
    (home / ".postgresql").mkdir(parents=True)
    passwords = home / ".pgpass"
    passwords.write_text("*:*:*:*:x\n")
    for folder in [*tmp_path.parents, tmp_path]:
        if folder.is_relative_to(gettempdir()) and folder != Path(gettempdir()):
            folder.chmod(0o755)
    passwords.chmod(0o600)
    if kind == "closed":
        home.chmod(0o700)
    elif kind == "closed folder":
        (home / ".postgresql").chmod(0o700)
    place = "/nowhere" if kind == "none" else str(home)
    command = [sys.executable, "-W", "error", "-c", CONNECT, database_url, place, query]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another account")
@pytest.mark.parametrize("query", ["?sslmode=verify-ca", "?passfile=/root/.pgpass"])
def test_a_file_that_was_asked_for_is_not_passed_over(database_url: str, tmp_path: Path, query: str) -> None:
    tmp_path.chmod(0o700)
    command = [sys.executable, "-c", CONNECT, database_url, str(tmp_path), query]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "ConfigurationError: TMCP_DATABASE_URL: " in done.stderr


async def test_an_account_without_a_name_is_told_to_name_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME", "PGUSER"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(ConfigurationError, match="TMCP_DATABASE_URL: no user is named"):
        await Database("postgresql://127.0.0.1:1/d").fetchrow("SELECT 1", idempotent=True)


async def test_a_database_of_another_encoding_is_refused_before_anything_is_done(database_url: str) -> None:
    database = Database(database_url)
    for encoding in ("LATIN1", "SQL_ASCII"):
        name = f"e_{encoding.lower()}_{database_url[-12:]}"
        await database.fetchrow(
            f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
            idempotent=False,
        )
        try:
            old = Database(f"{database_url.rpartition('/')[0]}/{name}")
            with pytest.raises(ConfigurationError, match=f"encoding is {encoding}.*UTF8"):
                await old.fetchrow("SELECT 1", idempotent=True)
            with pytest.raises(ConfigurationError, match=f"encoding is {encoding}"):
                await old.connect(listen=True)
        finally:
            await database.fetchrow(f"DROP DATABASE {name} WITH (FORCE)", idempotent=False)
    await database.aclose()
