"""TLS: what every `sslmode` accepts, against a server with a certificate for `localhost`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.guarded import GuardedPostgres, guarded_postgres
from tmcp_serverless import ConfigurationError, Database, StoreUnavailableError
from tmcp_serverless.postgres.connect import target, tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator, Mapping


@pytest.fixture(scope="module")
def server() -> Generator[GuardedPostgres]:
    with guarded_postgres() as server:
        yield server


@pytest.fixture(autouse=True)
async def users(server: GuardedPostgres) -> None:
    await server.add_user("robot", "")
    await server.add_user("plain", "p")


async def is_encrypted(database: Database) -> bool:
    connection = await database.connect()
    try:
        return bool(await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("mode", "authority", "host", "encrypted"),
    [
        ("disable", "", "localhost", False),
        ("allow", "", "localhost", False),
        ("prefer", "", "localhost", True),
        ("", "", "localhost", True),
        ("require", "", "localhost", True),
        ("require", "ca.pem", "127.0.0.1", True),
        ("verify-ca", "ca.pem", "127.0.0.1", True),
        ("verify-full", "ca.pem", "localhost", True),
    ],
)
async def test_each_sslmode_connects(
    server: GuardedPostgres, mode: str, authority: str, host: str, *, encrypted: bool
) -> None:
    query = {"sslmode": mode} if mode else {}
    if authority:
        query["sslrootcert"] = str(server.folder / authority)
    assert await is_encrypted(Database(server.url("plain", "p", host=host, **query))) is encrypted


@pytest.mark.parametrize(
    ("mode", "authority", "host"),
    [
        ("require", "other.pem", "localhost"),
        ("verify-ca", "other.pem", "localhost"),
        ("verify-full", "other.pem", "localhost"),
        ("verify-full", "ca.pem", "127.0.0.1"),
        ("verify-full", "missing.pem", "localhost"),
    ],
)
async def test_a_certificate_that_does_not_verify_is_an_error(
    server: GuardedPostgres, mode: str, authority: str, host: str
) -> None:
    root = str(server.folder / authority)
    dsn = server.url("plain", "p", host=host, sslmode=mode, sslrootcert=root)
    with pytest.raises(ConfigurationError):
        await Database(dsn).connect()


async def test_the_roots_of_the_system_are_used_where_they_are_asked_for(server: GuardedPostgres) -> None:
    with pytest.raises(ConfigurationError, match="certificate verify failed"):
        await Database(server.url("plain", "p", sslrootcert="system")).connect()


async def test_a_bundle_by_path_makes_it_verify_full(server: GuardedPostgres) -> None:
    bundle = str(server.folder / "ca.pem")
    assert await is_encrypted(Database(server.url("plain", "p"), tls_ca=bundle))
    with pytest.raises(ConfigurationError, match="certificate is not valid for"):
        await Database(server.url("plain", "p", host="127.0.0.1"), tls_ca=bundle).connect()
    # What the connection string says comes first.
    assert not await is_encrypted(Database(server.url("plain", "p", sslmode="disable"), tls_ca=bundle))


async def test_a_client_comes_with_its_certificate(server: GuardedPostgres) -> None:
    query = {
        "sslrootcert": str(server.folder / "ca.pem"),
        "sslcert": str(server.folder / "robot.pem"),
        "sslkey": str(server.folder / "robot.key"),
    }
    assert await is_encrypted(Database(server.url("robot", sslmode="verify-full", **query)))


async def test_the_context_is_made_once_for_all_connections(
    server: GuardedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ssl.SSLContext | None] = []

    def make_context(parameters: Mapping[str, str]) -> ssl.SSLContext | None:
        made.append(tls.make_context(parameters))
        return made[-1]

    monkeypatch.setattr(target, "make_context", make_context)
    root = str(server.folder / "ca.pem")
    database = Database(server.url("plain", "p", sslmode="verify-full", sslrootcert=root))
    for _ in range(3):
        assert await is_encrypted(database)
    assert len(made) == 1


async def test_a_server_without_tls_is_not_spoken_to_in_the_clear(database_url: str) -> None:
    with pytest.raises(StoreUnavailableError):
        await Database(f"{database_url}?sslmode=require").connect()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sslmode=verified", "sslmode is not supported with this value: it has to be one of disable, "),
        ("sslmode=verify-full", "needs a root certificate"),
        ("sslmode=require&sslrootcert=system", "needs sslmode=verify-full"),
        ("sslmode=require&sslcert=/nowhere", "sslcert"),
        ("sslmode=require&ssl_min_protocol_version=SSLv3", "ssl_min_protocol_version"),
    ],
)
async def test_what_cannot_be_done_is_said(query: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    with pytest.raises(ConfigurationError, match=said):
        await Database(f"postgresql://u@localhost:1/x?{query}").connect()
