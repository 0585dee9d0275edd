"""Who logs in: secrets, parameters and IAM tokens of AWS (moto), against a Postgres that wants passwords."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from moto import mock_aws

from tests.support.guarded import GuardedPostgres, guarded_postgres
from tmcp_serverless import ConfigurationError, Notifier, Settings, StoreUnavailableError
from tmcp_serverless.postgres.connect import iam, login
from tmcp_serverless.postgres.connect.configured import database_for

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tmcp_serverless import Database

NAME = "prod/orders"


@pytest.fixture(scope="module")
def server() -> Generator[GuardedPostgres]:
    with guarded_postgres() as server:
        yield server


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setattr(login, "_REFETCH_SECONDS", 0.0)
    with mock_aws():
        yield


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every fetch is noted."""
    names: list[str] = []
    fetch: Callable[..., str] = vars(login)["_fetch"]

    def noted(name: str, *args: Any, **options: Any) -> str:
        names.append(name)
        return fetch(name, *args, **options)

    monkeypatch.setattr(login, "_fetch", noted)
    return names


def store_secret(value: str) -> None:
    client = boto3.client("secretsmanager")
    try:
        client.create_secret(Name=NAME, SecretString=value)
    except client.exceptions.ResourceExistsException:
        client.put_secret_value(SecretId=NAME, SecretString=value)


def rds_json(server: GuardedPostgres, password: str, **more: Any) -> str:
    return json.dumps(
        {
            "engine": "postgres",
            "host": "localhost",
            "port": server.postgres.port,
            "username": "app",
            "password": password,
            "dbname": "postgres",
            "dbInstanceIdentifier": "orders",
            **more,
        }
    )


def database(**settings: Any) -> Database:
    return database_for(Settings.load(environment={}, **settings))


async def user_of(database: Database) -> str:
    try:
        row = await database.fetchrow("SELECT current_user || '@' || current_database()", idempotent=True)
    finally:
        await database.aclose()
    assert row is not None
    return row[0]


async def test_a_secret_that_is_rds_json_says_it_all(server: GuardedPostgres, fetched: list[str]) -> None:
    await server.add_user("app", "first")
    store_secret(rds_json(server, "first"))
    found = database(database_secret=NAME)
    for _ in range(3):
        assert await user_of(found) == "app@postgres"
    assert fetched == [NAME]


async def test_a_secret_that_is_a_url_says_it_all(server: GuardedPostgres) -> None:
    await server.add_user("app", "p:/?#[]@%w")
    store_secret(server.url("app", "p:/?#[]@%w"))
    assert await user_of(database(database_secret=NAME)) == "app@postgres"


async def test_a_parameter_is_decrypted(server: GuardedPostgres) -> None:
    await server.add_user("app", "first")
    client = boto3.client("ssm")
    client.put_parameter(Name=f"/{NAME}", Value=server.url("app", "first"), Type="SecureString")
    assert await user_of(database(database_parameter=f"/{NAME}")) == "app@postgres"


async def test_what_the_connection_string_says_comes_before_the_secret(server: GuardedPostgres) -> None:
    """RDS's own secrets hold a user and a password, and a proxy has another host."""
    await server.add_user("app", "first")
    store_secret(rds_json(server, "first", host="nowhere.invalid", dbname="another"))
    url = f"postgresql://localhost:{server.postgres.port}/postgres"
    assert await user_of(database(database_secret=NAME, database_url=url)) == "app@postgres"
    store_secret(json.dumps({"username": "app", "password": "first"}))
    assert await user_of(database(database_secret=NAME, database_url=url)) == "app@postgres"


async def test_the_address_to_listen_at_takes_its_login_from_the_secret(server: GuardedPostgres) -> None:
    await server.add_user("app", "first")
    store_secret(rds_json(server, "first", host="nowhere.invalid"))
    direct = f"postgresql://localhost:{server.postgres.port}"
    connection = await database(database_secret=NAME, listen_url=direct).connect(listen=True)
    assert await connection.fetchval("SELECT current_user") == "app"
    await connection.close()


async def test_a_secret_without_a_database_needs_a_name(server: GuardedPostgres) -> None:
    await server.add_user("app", "first")
    store_secret(rds_json(server, "first", dbname=None))
    with pytest.raises(ConfigurationError, match="TMCP_DATABASE_NAME"):
        await user_of(database(database_secret=NAME))
    assert await user_of(database(database_secret=NAME, database_name="template1")) == "app@template1"


async def test_a_rotated_password_is_fetched_once_and_nobody_notices(
    server: GuardedPostgres, fetched: list[str]
) -> None:
    await server.add_user("app", "first")
    store_secret(rds_json(server, "first"))
    found = database(database_secret=NAME)
    await user_of(found)
    for number in range(3):
        await server.add_user("app", f"rotated {number}")
        store_secret(rds_json(server, f"rotated {number}"))
        users = await asyncio.gather(*(user_of(found) for _ in range(8)))
        assert users == ["app@postgres"] * 8
        assert len(fetched) == 2 + number, "eight connections were refused, and one of them asked"


@pytest.mark.parametrize("setting", ["database_name", "database_tls_ca"])
async def test_a_rotation_is_followed_where_other_settings_add_to_the_secret(
    server: GuardedPostgres, setting: str
) -> None:
    value = {"database_name": "template1", "database_tls_ca": str(server.folder / "ca.pem")}[setting]
    await server.add_user("app", "first")
    store_secret(rds_json(server, "first"))
    found = database(database_secret=NAME, **{setting: value})
    before = await user_of(found)
    await server.add_user("app", "second")
    store_secret(rds_json(server, "second"))
    assert await user_of(found) == before


async def test_a_rotation_to_another_user_is_followed(server: GuardedPostgres) -> None:
    await server.add_user("app", "first")
    await server.add_user("app_clone", "other")
    store_secret(rds_json(server, "first"))
    found = database(database_secret=NAME)
    assert await user_of(found) == "app@postgres"
    await server.add_user("app", "gone")
    store_secret(rds_json(server, "other", username="app_clone"))
    assert await user_of(found) == "app_clone@postgres"


async def test_a_password_that_stays_wrong_is_an_error_that_does_not_show_it(
    server: GuardedPostgres, fetched: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    await server.add_user("app", "right")
    store_secret(rds_json(server, "wrong-and-secret"))
    found = database(database_secret=NAME)
    at_level = caplog.at_level(logging.DEBUG, logger="tmcp_serverless")  # botocore itself logs bodies there
    with at_level, pytest.raises(ConfigurationError, match="SECRET") as raised:
        await user_of(found)
    assert len(fetched) == 2, "it was fetched again, once"
    assert "wrong-and-secret" not in str(raised.value) + caplog.text
    await server.add_user("app", "wrong-and-secret")
    assert await user_of(found) == "app@postgres", "it heals by itself"


async def test_aws_is_not_asked_more_than_once_a_second_for_a_login_that_is_wrong(
    server: GuardedPostgres, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "_REFETCH_SECONDS", 60.0)
    await server.add_user("app", "right")
    store_secret(rds_json(server, "wrong"))
    found = database(database_secret=NAME)
    for _ in range(5):
        with pytest.raises(ConfigurationError):
            await user_of(found)
    assert len(fetched) == 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('{"username": "u"}', "no `username` and `password`"),
        ('{"username": "u", "password": "hidden", "engine": "mysql", "host": "h"}', "engine 'mysql'"),
        ("{hidden", "begins like JSON"),
        ("hidden", "is not a Postgres connection string"),
        ('{"username": "u", "password": "hidden", "dbname": "d"}', "says no host"),
    ],
)
async def test_a_secret_that_cannot_be_used_is_an_error_that_does_not_show_it(value: str, said: str) -> None:
    store_secret(value)
    with pytest.raises(ConfigurationError, match=said) as raised:
        await user_of(database(database_secret=NAME))
    assert "hidden" not in str(raised.value)


async def test_a_secret_that_is_not_there_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigurationError, match="TMCP_DATABASE_SECRET: the secret cannot be read"):
        await user_of(database(database_secret="nothing"))
    with pytest.raises(ConfigurationError, match="TMCP_DATABASE_PARAMETER: the parameter cannot be read"):
        await user_of(database(database_parameter="/nothing"))


async def test_aws_without_a_region_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(ConfigurationError, match=r"TMCP_DATABASE_SECRET.*region"):
        await user_of(database(database_secret=NAME))
    with pytest.raises(ConfigurationError, match=r"TMCP_DATABASE_IAM.*no AWS region"):
        await user_of(database(database_iam=True, database_url="postgresql://u@h/d"))


async def test_aws_that_does_not_answer_is_worth_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **__: object) -> None:
        time.sleep(0.5)

    monkeypatch.setattr(login, "_fetch", hang)
    monkeypatch.setattr(login, "_FETCH_SECONDS", 0.05)
    with pytest.raises(StoreUnavailableError, match="endpoint or a NAT gateway"):
        await user_of(database(database_secret=NAME))


def test_two_ways_to_log_in_contradict_each_other() -> None:
    with pytest.raises(ConfigurationError, match="TMCP_DATABASE_SECRET and TMCP_DATABASE_IAM"):
        database(database_secret=NAME, database_iam=True, database_url="postgresql://u@h/d")


# IAM


async def test_an_iam_token_is_the_password_over_tls(server: GuardedPostgres) -> None:
    found = database(database_url=server.url("iam_user"), database_iam=True)
    token = (await found.target.parameters())["password"]
    await server.add_user("iam_user", token)
    assert await user_of(found) == "iam_user@postgres"
    bundle = str(server.folder / "ca.pem")
    verified = database(database_url=server.url("iam_user"), database_iam=True, database_tls_ca=bundle)
    assert (await verified.target.parameters())["sslmode"] == "verify-full"


async def test_a_token_is_what_boto3_makes_for_the_region_of_the_host() -> None:
    host = "orders.abc123.us-west-2.rds.amazonaws.com"
    found = database(database_url=f"postgresql://app@{host}:5433/d", database_iam=True)
    ours = (await found.target.parameters())["password"]
    client = boto3.client("rds", region_name="us-west-2")
    theirs = client.generate_db_auth_token(DBHostname=host, Port=5433, DBUsername="app")
    place, query = urlsplit(f"//{ours}").netloc, parse_qs(urlsplit(f"//{ours}").query)
    reference = parse_qs(urlsplit(f"//{theirs}").query)
    assert place == f"{host}:5433"
    assert query.keys() == reference.keys()
    for name in query.keys() - {"X-Amz-Signature", "X-Amz-Date"}:
        assert query[name] == reference[name]
    if query["X-Amz-Date"] == reference["X-Amz-Date"]:
        assert ours == theirs


async def test_a_token_is_kept_for_ten_minutes_and_made_new_when_it_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = time.time()
    monkeypatch.setattr(iam.time, "time", lambda: now)
    signed: list[str] = []

    def sign(_: object, host: str, *__: object) -> str:
        signed.append(host)
        return f"token {len(signed)}"

    monkeypatch.setattr(iam.IamLogin, "_sign", sign)
    way, said = iam.IamLogin(), {"host": "h", "user": "u"}
    assert [(await way.complete(said))["password"] for _ in range(3)] == ["token 1"] * 3
    now += 590
    first = await way.complete(said)
    assert first["password"] == "token 1"
    assert (await way.complete(said, refused=first))["password"] == "token 2"
    now += 601
    assert (await way.complete(said))["password"] == "token 3"
    assert (await way.complete({"host": "direct", "user": "u"}))["password"] == "token 4"
    assert signed == ["h", "h", "h", "direct"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://host/d", "one host and a user"),
        ("postgresql://u@/d", "one host and a user"),
        ("postgresql://u@one,two/d", "one host and a user"),
        ("postgresql://u@host/d?sslmode=prefer", "over TLS alone"),
        (None, "one host and a user"),
    ],
)
async def test_iam_needs_a_host_a_user_and_tls(url: str | None, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        await user_of(database(database_url=url, database_iam=True))


# Without any of this


@pytest.mark.parametrize("setting", ["database_secret", "database_parameter", "database_iam"])
async def test_without_the_extra_the_error_says_what_to_install(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("boto3", "aws_lambda_powertools.utilities"):
        monkeypatch.setitem(sys.modules, name, None)
    settings = {setting: NAME, "database_url": "postgresql://u@h/d"}
    if setting == "database_iam":
        settings[setting] = "true"
    with pytest.raises(ConfigurationError, match=r"pip install 'tmcp-serverless\[aws\]'"):
        await user_of(database(**settings))


def test_aws_is_imported_only_where_it_is_configured(database_url: str) -> None:
    code = (
        "import asyncio, sys\n"
        "from tmcp_serverless import Notifier\n"
        "async def main():\n"
        "    async with Notifier(sys.argv[1], namespace='x') as notifier:\n"
        "        await notifier.tools_changed()\n"
        "asyncio.run(main())\n"
        "sys.exit(' '.join({'boto3', 'botocore', 'aws_lambda_powertools'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, database_url], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


async def test_a_notifier_finds_its_password_in_the_secret(server: GuardedPostgres) -> None:
    await server.add_user("app", "first")
    store_secret(rds_json(server, "first"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TMCP_DATABASE_SECRET", NAME)
        async with Notifier(f"postgresql://localhost:{server.postgres.port}/template1") as notifier:
            await notifier.tools_changed()


async def test_unix_sockets_are_reached_by_url_and_by_pairs(server: GuardedPostgres) -> None:
    await server.add_user("app", "first")
    port = server.postgres.port
    for address in (
        f"postgresql://app:first@/postgres?host={server.socket}&port={port}",
        f"host={server.socket} port={port} user=app password=first dbname=postgres",
        f"postgresql://app:first@/postgres?host={server.socket}&port={port}&sslmode=verify-full",
    ):
        assert await user_of(database(database_url=address)) == "app@postgres"
