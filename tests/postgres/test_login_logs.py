"""What fetching a login writes to the log at DEBUG: no password, and no credentials of the function."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from tmcp_serverless import Settings
from tmcp_serverless.postgres.connect.configured import database_for

if TYPE_CHECKING:
    from collections.abc import Generator

SECRETS = ("pass-word-of-the-database", "key-of-the-role", "token-of-the-role")


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key-of-the-role")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-the-role")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        boto3.client("secretsmanager").create_secret(
            Name="login", SecretString=json.dumps({"username": "app", "password": SECRETS[0], "host": "h"})
        )
        boto3.client("ssm").put_parameter(
            Name="/login", Value=f"postgresql://app:{SECRETS[0]}@h/d", Type="SecureString"
        )
        yield


@pytest.fixture
def loggers_as_before() -> Generator[None]:
    names = ("botocore", "boto3")
    before = [logging.getLogger(name).level for name in names]
    yield
    for name, level in zip(names, before, strict=True):
        logging.getLogger(name).setLevel(level)


@pytest.mark.usefixtures("loggers_as_before")
@pytest.mark.parametrize("own_level", [logging.NOTSET, logging.DEBUG])
@pytest.mark.parametrize(
    "settings",
    [
        {"database_secret": "login", "database_name": "d"},
        {"database_parameter": "/login"},
        {"database_iam": "true", "database_url": "postgresql://app@h/d"},
    ],
)
async def test_a_log_at_debug_has_no_password_and_no_credentials(
    settings: dict[str, Any], own_level: int, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("botocore", "boto3"):
        logging.getLogger(name).setLevel(own_level)
    target = database_for(Settings.load(environment={}, **settings)).target
    with caplog.at_level(logging.DEBUG):
        assert (await target.parameters())["user"] == "app"
    for secret in SECRETS:
        assert secret not in caplog.text


@pytest.mark.usefixtures("loggers_as_before")
async def test_a_level_above_debug_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("botocore").setLevel(logging.ERROR)
    with caplog.at_level(logging.WARNING):
        await database_for(
            Settings.load(environment={}, database_secret="login", database_name="d")
        ).target.parameters()
    assert logging.getLogger("botocore").level == logging.ERROR
    assert logging.getLogger("boto3").level == logging.NOTSET
