from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.cli.support import LIMIT_SECONDS, lives, until
from tmcp_serverless.errors import ConfigurationError, TmcpError
from tmcp_serverless.testing import _binaries
from tmcp_serverless.testing import postgres as embedded
from tmcp_serverless.testing.postgres import (
    EmbeddedPostgres,
    PostgresStartError,
    create_database_sync,
    find_binaries,
    list_binaries,
)

if TYPE_CHECKING:
    from collections.abc import Generator

MAJORS = [binaries.major for binaries in list_binaries()]
as_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root has to step down")


@pytest.fixture(scope="module")
def postgres() -> Generator[EmbeddedPostgres]:
    with EmbeddedPostgres(durable=False) as server:
        yield server


async def ask(dsn: str, query: str) -> str:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        return str(await connection.fetchval(query))
    finally:
        await connection.close()


def test_there_are_binaries() -> None:
    assert MAJORS


@pytest.mark.parametrize("major", MAJORS)
async def test_every_version_here_starts_and_is_gone_after_stop(major: int) -> None:
    with EmbeddedPostgres(version=major) as server:
        pid, folder = server.pid, server.folder
        assert pid is not None
        assert folder is not None
        assert server.major_version == major
        assert (await ask(server.dsn, "SHOW server_version")).startswith(str(major))
        assert await ask(server.dsn, "SHOW server_encoding") == "UTF8"
    assert not lives(pid)
    assert not folder.exists()


async def test_commits_are_durable_unless_told_otherwise() -> None:
    with EmbeddedPostgres(settings={"work_mem": "5MB"}, max_connections=17) as server:
        assert await ask(server.dsn, "SHOW fsync") == "on"
        assert await ask(server.dsn, "SHOW work_mem") == "5MB"
        assert await ask(server.dsn, "SHOW max_connections") == "17"


async def test_not_durable_is_without_fsync(postgres: EmbeddedPostgres) -> None:
    assert await ask(postgres.dsn, "SHOW fsync") == "off"
    assert await ask(postgres.dsn, "SHOW max_connections") == "200"


def test_not_durable_is_in_memory_where_that_has_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    memory = tmp_path_factory.mktemp("memory")
    for folder in (memory, *memory.parents[:-2]):
        folder.chmod(0o755)
    monkeypatch.setattr(embedded, "_MEMORY", memory)
    monkeypatch.setattr(embedded, "_MEMORY_BYTES", 1)
    with EmbeddedPostgres(durable=False) as server:
        assert server.folder is not None
        assert server.folder.parent == memory
    assert not [*memory.iterdir()]
    with EmbeddedPostgres() as server:
        assert server.folder is not None
        assert server.folder.parent != memory


@pytest.mark.parametrize(("memory", "needed"), [("/nowhere", 1), ("/", 1 << 60)], ids=["none", "full"])
def test_where_memory_has_no_room_the_data_are_on_disk(
    monkeypatch: pytest.MonkeyPatch, memory: str, needed: int
) -> None:
    monkeypatch.setattr(embedded, "_MEMORY", Path(memory))
    monkeypatch.setattr(embedded, "_MEMORY_BYTES", needed)
    with EmbeddedPostgres(durable=False) as server:
        assert server.folder is not None
        assert server.folder.parent == Path(tempfile.gettempdir())


@pytest.mark.parametrize("durable", [False, True])
def test_a_database_is_copied_by_files_where_nothing_is_flushed(*, durable: bool) -> None:
    with EmbeddedPostgres(durable=durable, settings={"log_statement": "ddl"}) as server:
        server.create_database_sync("copy", template="template1")
        assert ("STRATEGY FILE_COPY" in server.log()) is (not durable and server.major_version >= 15)


async def test_a_crash_and_a_restart_keep_address_and_data_but_no_connection() -> None:
    with EmbeddedPostgres() as server:
        dsn, first = server.dsn, server.pid
        await ask(dsn, "CREATE TABLE kept AS SELECT 1 AS one")
        server.stop_immediately()
        assert server.pid is None
        with pytest.raises(OSError, match="Connect"):
            await ask(dsn, "SELECT 1")
        server.start()
        assert (server.dsn, await ask(dsn, "SELECT one FROM kept")) == (dsn, "1")
        assert server.pid != first
        connection = await asyncpg.connect(dsn)
        server.restart()
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await connection.fetchval("SELECT 1")
        assert (server.dsn, await ask(dsn, "SELECT one FROM kept")) == (dsn, "1")


async def test_databases_are_apart_and_can_be_copied(postgres: EmbeddedPostgres) -> None:
    first = await postgres.create_database('odd "name"/50%')
    await ask(first, "CREATE TABLE here AS SELECT 'yes' AS answer")
    empty = postgres.create_database_sync("empty")
    copy = create_database_sync(postgres.dsn, "copy", template='odd "name"/50%')
    assert await ask(copy, "SELECT answer FROM here") == "yes"
    assert await ask(empty, "SELECT to_regclass('here')") == "None"


def test_a_database_that_exists_is_an_error_of_the_driver(postgres: EmbeddedPostgres) -> None:
    postgres.create_database_sync("twice")
    with pytest.raises(asyncpg.DuplicateDatabaseError):
        postgres.create_database_sync("twice")


def test_starting_and_stopping_twice_is_once() -> None:
    server = EmbeddedPostgres(durable=False)
    server.start()
    pid = server.pid
    assert server.start().pid == pid
    server.stop()
    server.stop()
    with pytest.raises(TmcpError, match="start"):
        _ = server.dsn


def test_a_start_that_fails_says_what_the_server_logged_and_leaves_nothing() -> None:
    server = EmbeddedPostgres(settings={"no_such_setting": "1"})
    with pytest.raises(PostgresStartError, match="unrecognized configuration parameter"):
        server.start()
    assert server.folder is None
    assert server.pid is None


def test_the_server_and_its_data_go_when_the_process_is_killed() -> None:
    code = (
        "import sys; from tmcp_serverless.testing.postgres import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(durable=False).start()\n"
        "print(server.pid, server.folder, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid, folder = process.stdout.readline().split()
        assert lives(int(pid))
        process.send_signal(signal.SIGKILL)
        process.wait(LIMIT_SECONDS)
    until(lambda: not lives(int(pid)))
    until(lambda: not Path(folder).exists())


def test_a_version_that_is_not_here_is_an_error_that_names_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match=rf"no PostgreSQL 9 .* {MAJORS[0]}"):
        EmbeddedPostgres(version=9).start()
    assert find_binaries(9) is None


def test_the_configured_folder_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    last = list_binaries()[-1]
    monkeypatch.setenv("TMCP_POSTGRES_BIN", str(last.bin))
    assert find_binaries() == last.bin
    assert list_binaries()[0] == last


def test_a_configured_folder_without_binaries_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMCP_POSTGRES_BIN", str(tmp_path))
    with pytest.raises(ConfigurationError, match="TMCP_POSTGRES_BIN"):
        find_binaries()


def test_without_any_binaries_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_binaries, "_candidates", list[Path])
    with pytest.raises(ConfigurationError, match=r"tmcp-serverless\[local\]"):
        EmbeddedPostgres().start()


@as_root
async def test_root_copies_the_wheel_out_of_a_private_folder_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    [wheel] = [each.bin.parents[1] for each in list_binaries() if each.bin.parent.name == "pginstall18"]
    private, shared = tmp_path_factory.mktemp("private"), tmp_path_factory.mktemp("shared")
    private.chmod(0o700)
    for folder in (shared, *shared.parents[:-2]):
        folder.chmod(0o755)
    for name in (wheel.name, f"{wheel.name}.libs"):
        (private / name).symlink_to(wheel.with_name(name))
    monkeypatch.setattr(_binaries, "_wheel", lambda: private / wheel.name)
    monkeypatch.setattr(_binaries.tempfile, "gettempdir", lambda: str(shared))
    for _ in range(2):
        with EmbeddedPostgres(durable=False) as server:
            assert await ask(server.dsn, "SELECT 1") == "1"
    assert len([path for path in shared.iterdir() if (path / wheel.name).is_dir()]) == 1


@as_root
def test_root_does_not_run_a_copy_that_somebody_else_may_have_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (copy := tmp_path / "copy").mkdir(mode=0o777)
    copy.chmod(0o777)
    with pytest.raises(ConfigurationError, match="writable for others"):
        _binaries._is_ours(copy)  # pyright: ignore[reportPrivateUsage]  # its reason is security
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ConfigurationError, match="somebody else"):
        _binaries._is_ours(tmp_path)  # pyright: ignore[reportPrivateUsage]  # the same


@as_root
def test_root_does_not_run_it_as_root() -> None:
    with EmbeddedPostgres(durable=False) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0


def test_importing_it_imports_no_driver() -> None:
    code = "import sys, tmcp_serverless.testing.postgres; sys.exit('asyncpg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
