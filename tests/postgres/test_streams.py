"""What only the Postgres streams do: expiry, gaps, bounds, the doorbell's connection, poolers."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import pwd
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.activity import connections
from tests.support.rows import key
from tests.support.waiting import eventually
from tmcp_serverless import Database, PostgresInfoSessionManager, PostgresStreamSessionManager, SessionRecord
from tmcp_serverless.testing.contracts import RecordingController

if TYPE_CHECKING:
    from collections.abc import Generator

    from tmcp_serverless.testing.postgres import EmbeddedPostgres


async def execute(dsn: str, sql: str, *args: Any) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(sql, *args)
    finally:
        await connection.close()


async def test_a_gap_in_the_sessions_mailbox_is_told_and_not_silent(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url) as streams:
        for number in range(5):
            await streams.send(["s"], str(number))
        await execute(database_url, "DELETE FROM tmcp_messages WHERE n <= 3")
        controller = RecordingController()
        await streams.create("s", controller)
        assert await controller.count(2) == ["3", "4"]
        assert controller.missing == 3


async def test_a_mailbox_whose_messages_have_all_expired_is_a_gap_too(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url) as streams:
        for number in range(5):
            await streams.send(["s"], str(number))
        await execute(database_url, "DELETE FROM tmcp_messages")
        controller = RecordingController()
        await streams.create("s", controller)
        await controller.until(lambda: controller.missing == 5)
        await streams.send(["s"], "new")
        assert await controller.count(1) == ["new"]
        assert controller.missing == 5
        await streams.release("s", controller)
        again = RecordingController()
        await streams.create("s", again)
        await streams.send(["s"], "newer")
        assert await again.count(1) == ["newer"]
        assert again.missing == 0, "a gap is told once"


async def test_a_gap_in_the_topic_is_told(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url) as streams:
        await streams.prepare("s")
        for number in range(3):
            await streams.send(None, str(number))
        await execute(database_url, "DELETE FROM tmcp_messages WHERE n = 1")
        controller = RecordingController()
        await streams.create("s", controller)
        assert await controller.count(2) == ["1", "2"]
        assert controller.missing == 1


async def test_a_topic_whose_messages_have_all_expired_is_a_gap_too(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url) as streams:
        await streams.prepare("s")
        await streams.send(None, "x")
        await execute(database_url, "DELETE FROM tmcp_messages")
        controller = RecordingController()
        await streams.create("s", controller)
        await controller.until(lambda: controller.missing == 1)
        await streams.send(None, "new")
        assert await controller.count(1) == ["new"]


async def test_messages_expire_by_age_and_mailboxes_when_they_are_unused(database_url: str) -> None:
    async with PostgresStreamSessionManager(
        database_url, retention_seconds=0.1, unused_seconds=0.1
    ) as streams:
        await streams.send(["s"], "x")
        await streams.send(["s/out.r1"], "y")

        async def gone() -> bool:
            await streams.sweep()
            return not await execute(database_url, "SELECT FROM tmcp_mailboxes")

        await eventually(gone)
        assert await execute(database_url, "SELECT FROM tmcp_messages") == []


async def test_a_mailbox_is_bounded_in_rows_and_bytes(database_url: str) -> None:
    async with PostgresStreamSessionManager(
        database_url, retention_rows=100, retention_bytes=10_000
    ) as streams:
        for number in range(640):
            await streams.send(["rows"], str(number))
        for _ in range(64):
            await streams.send(["bytes"], "x" * 1_000)
        rows = await execute(
            database_url, "SELECT mailbox, count(*) FROM tmcp_messages GROUP BY 1 ORDER BY 1"
        )
    assert [tuple(row) for row in rows] == [(key("bytes"), 10), (key("rows"), 100)]


async def test_a_process_has_one_listening_connection_while_it_has_streams_and_none_after(
    database_url: str,
) -> None:
    async def listening() -> int:
        rows = await execute(
            database_url,
            "SELECT FROM pg_stat_activity WHERE application_name LIKE 'tmcp_serverless%' "
            "AND datname = current_database()",
        )
        return len(rows)

    async with (
        Database(database_url, size=1) as database,
        PostgresStreamSessionManager(database) as streams,
    ):
        await streams.send(["s"], "x")
        assert await listening() == 1
        controllers = {f"s{number}": RecordingController() for number in range(20)}
        for id, controller in controllers.items():
            await streams.create(id, controller)
        assert await listening() == 2
        for id, controller in controllers.items():
            await streams.release(id, controller)
        assert await listening() == 1


async def test_a_lost_connection_listens_again_in_one_round_trip(database_url: str) -> None:
    async with (
        PostgresStreamSessionManager(database_url, heartbeat_seconds=0.2) as streams,
        PostgresStreamSessionManager(database_url) as elsewhere,
    ):
        controllers = {f"s{number}": RecordingController() for number in range(200)}
        for id, controller in controllers.items():
            await streams.create(id, controller)
        lost = await execute(
            database_url,
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'tmcp_serverless listen' AND datname = current_database()",
        )

        async def statement() -> str:
            rows = await execute(
                database_url,
                "SELECT query FROM pg_stat_activity WHERE application_name = 'tmcp_serverless listen' "
                "AND datname = current_database() AND pid <> $1",
                lost[0][0],
            )
            return rows[0][0] if rows else ""

        await eventually(statement)
        await elsewhere.send(list(controllers), "x")
        for controller in controllers.values():
            assert await controller.count(1) == ["x"]


async def test_a_link_that_is_black_holed_is_found_out(own_postgres: EmbeddedPostgres) -> None:
    """A stopped backend is a link on which nothing comes back and nothing is reported."""
    async with PostgresStreamSessionManager(
        own_postgres.dsn, heartbeat_seconds=0.3, lease_seconds=5
    ) as streams:
        controller = RecordingController()
        await streams.create("s", controller)
        rows = await execute(
            own_postgres.dsn,
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'tmcp_serverless listen'",
        )
        assert rows
        for row in rows:
            os.kill(row[0], 19)  # SIGSTOP
        try:
            async with PostgresStreamSessionManager(own_postgres.dsn) as other:
                await other.send(["s"], "x")
            assert await controller.count(1) == ["x"]
        finally:
            for row in rows:
                os.kill(row[0], 18)  # SIGCONT


async def test_no_connection_free_in_time_is_said(database_url: str) -> None:
    database = Database(database_url, size=2)
    info = PostgresInfoSessionManager(database)
    await info.initialize(
        "s",
        SessionRecord(
            protocol_version="2025-11-25", client_info={"name": "c", "version": "1"}, client_capabilities={}
        ),
    )
    records = await asyncio.gather(*(info.load("s") for _ in range(50)))
    assert len(records) == 50
    await database.aclose()


async def test_an_opening_that_is_cut_short_leaves_no_connection(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url) as streams:
        await streams.prepare("s")
    for milliseconds in range(30):
        async with PostgresStreamSessionManager(database_url) as streams:
            controller = RecordingController()
            try:
                async with asyncio.timeout(milliseconds / 1000):
                    await streams.create("s", controller)
            except TimeoutError:
                continue

    async def nothing_is_left() -> bool:
        return not await connections(database_url)

    await eventually(nothing_is_left)
    gc.collect()  # Complains, and so fails the test, about a connection that was dropped open.


async def test_a_release_that_is_cut_short_leaves_nothing_that_listens(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url, heartbeat_seconds=0.2) as streams:
        for tenths in range(20):
            controller = RecordingController()
            await streams.create("s", controller)
            try:
                async with asyncio.timeout(tenths / 10_000):
                    await streams.release("s", controller)
            except TimeoutError:
                continue

        async def nothing_listens() -> bool:
            rows = await execute(
                database_url,
                "SELECT FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name = 'tmcp_serverless listen'",
            )
            return not rows

        await eventually(nothing_listens)


# Behind a pooler


@pytest.fixture
def pgbouncer(database_url: str, tmp_path: Path) -> Generator[str]:
    """A real pgbouncer in transaction mode before the test's database."""
    binary = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if binary is None:
        pytest.skip("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    with running_pgbouncer(binary, database_url, tmp_path) as dsn:
        yield dsn


@contextmanager
def running_pgbouncer(binary: str, database_url: str, folder: Path) -> Generator[str]:
    server = urlsplit(database_url)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "pgbouncer.ini"
    config.write_text(
        "[databases]\n"
        f"* = host={server.hostname} port={server.port} user={server.username or 'postgres'}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 5\nmax_client_conn = 200\n"
        f"logfile = {folder / 'pgbouncer.log'}\n"
    )
    command = [binary, str(config)]
    if os.geteuid() == 0:
        account = pwd.getpwnam("nobody")
        # Its own account has to get here; a worker of pytest-xdist has one folder more.
        for path in (folder, *folder.parents[:3]):
            if path.name.startswith(("test_", "pytest-", "popen-")):
                path.chmod(0o777)
        command = [binary, "-u", account.pw_name, str(config)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        user = f"{server.username}@" if server.username else ""
        wait_for_port(port, process, folder / "pgbouncer.log")
        yield f"postgresql://{user}127.0.0.1:{port}{server.path}"
    finally:
        process.terminate()
        process.wait(10)


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError(f"pgbouncer ended: {log.read_text() if log.exists() else process.returncode}")
        with socket.socket() as client:
            client.settimeout(0.05)
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        process_wait(process)
    raise RuntimeError("pgbouncer does not listen")


def process_wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(0.05)
    except subprocess.TimeoutExpired:
        return


async def test_behind_a_pooler_that_swallows_listen_streams_poll_and_one_warning_says_so(
    pgbouncer: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        PostgresStreamSessionManager(pgbouncer) as streams,
        PostgresStreamSessionManager(pgbouncer) as sender,
    ):
        controllers = {f"s{number}": RecordingController() for number in range(5)}
        with caplog.at_level(logging.WARNING):
            for id, controller in controllers.items():
                await streams.create(id, controller)
        warnings = [record.getMessage() for record in caplog.records if "LISTEN" in record.getMessage()]
        assert len(warnings) == 1
        assert "TMCP_LISTEN_URL" in warnings[0]
        for number in range(30):
            await sender.send(list(controllers), str(number))
        for controller in controllers.values():
            assert await controller.count(30) == [str(number) for number in range(30)]


async def test_a_trial_of_listen_that_was_cut_short_is_made_again(
    pgbouncer: str, caplog: pytest.LogCaptureFixture
) -> None:
    # By a request that ended sooner, which needed its inbox no longer.
    async with (
        PostgresStreamSessionManager(pgbouncer) as streams,
        PostgresStreamSessionManager(pgbouncer) as sender,
    ):
        await streams.prepare("s")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await streams.create("inbox", RecordingController())
        controller = RecordingController()
        with caplog.at_level(logging.WARNING):
            await streams.create("s", controller)
        assert "LISTEN does not deliver" in caplog.text, "else a heartbeat would bring what no ring does"
        await sender.send(["s"], "x")
        assert await controller.count(1) == ["x"]


async def test_a_direct_connection_beside_the_pooled_one_listens(
    pgbouncer: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with PostgresStreamSessionManager(pgbouncer, listen_dsn=database_url) as streams:
            controller = RecordingController()
            await streams.create("s", controller)
            await streams.send(["s"], "x")
            assert await controller.count(1) == ["x"]
    assert caplog.records == []


async def test_metadata_works_through_a_pooler(pgbouncer: str) -> None:
    record = SessionRecord(
        protocol_version="2025-11-25", client_info={"name": "c", "version": "1"}, client_capabilities={}
    )
    async with PostgresInfoSessionManager(pgbouncer) as info, PostgresInfoSessionManager(pgbouncer) as other:
        await info.initialize("s", record)
        loaded = await asyncio.gather(*(manager.load("s") for manager in [info, other] * 20))
    assert loaded == [record] * 40
