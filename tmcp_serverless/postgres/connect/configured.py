"""The database that the settings name, or one at an address that replaces theirs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Unpack

from tmcp_serverless.config import Settings
from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.postgres.connect.dsn import parse
from tmcp_serverless.postgres.connect.login import StoredLogin
from tmcp_serverless.postgres.database import Database

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tmcp_serverless.overrides import SettingsOverrides
    from tmcp_serverless.postgres.connect.login import Login

__all__ = ["NO_DATABASE", "database_for", "settings_at", "variables_at"]

NO_DATABASE = {
    "TMCP_DATABASE_URL": "",
    "TMCP_DATABASE_SECRET": "",
    "TMCP_DATABASE_PARAMETER": "",
    "TMCP_DATABASE_IAM": "",
    "TMCP_DATABASE_NAME": "",
    "TMCP_DATABASE_TLS_CA": "",
    "TMCP_LISTEN_URL": "",
}
"""The variables that name the database and the login; an empty one counts as not set."""


def database_for(settings: Settings) -> Database:
    """Return the configured database. Nothing is opened or fetched before the first statement.

    Raises:
        ConfigurationError: No database is configured, or two settings contradict each other.

    """
    if not settings.has_database:
        raise ConfigurationError("there is no database: set TMCP_DATABASE_URL")
    commit = settings.synchronous_commit
    return Database(
        settings.database_url,
        listen_dsn=settings.listen_url,
        size=settings.database_connections,
        server_settings={"synchronous_commit": commit} if commit else None,
        setting=settings.database_setting,
        login=_login(settings),
        tls_ca=settings.database_tls_ca,
        dbname=settings.database_name,
        idle_seconds=settings.database_idle_seconds,
        schema=settings.schema_name,
    )


def variables_at(
    address: str, *, setting: str, environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment variables to set so that the database at this address is used, and no other.

    The result is empty if `TMCP_DATABASE_URL` has this address already. Otherwise `TMCP_DATABASE_NAME` and
    `TMCP_LISTEN_URL` belong to another database and are emptied. A login from a secret or a parameter stays
    in use if the address has no user, and an IAM login if it has no password.

    Raises:
        ConfigurationError: The address is not a connection string. The message calls it `setting`.

    """
    environment = os.environ if environment is None else environment
    if address == environment.get("TMCP_DATABASE_URL"):
        return {}
    said = parse(address, setting=setting)
    dropped = ["TMCP_DATABASE_NAME", "TMCP_LISTEN_URL"]
    if "user" in said:
        dropped += ["TMCP_DATABASE_SECRET", "TMCP_DATABASE_PARAMETER"]
    if "password" in said:
        dropped += ["TMCP_DATABASE_IAM"]
    present = {name: "" for name in dropped if environment.get(name)}
    return {**present, "TMCP_DATABASE_URL": address}


def settings_at(address: str, *, setting: str, **given: Unpack[SettingsOverrides]) -> Settings:
    """Return the environment's settings for the database at this address: see `variables_at`.

    Raises:
        ConfigurationError: The address is not a connection string, or a setting is wrong.

    """
    environment = {**os.environ, **variables_at(address, setting=setting)}
    return Settings.load(environment=environment, **given).with_url_from(setting)


def _login(settings: Settings) -> Login | None:
    ways = {
        "TMCP_DATABASE_SECRET": settings.database_secret is not None,
        "TMCP_DATABASE_PARAMETER": settings.database_parameter is not None,
        "TMCP_DATABASE_IAM": settings.database_iam,
    }
    chosen = [name for name, is_set in ways.items() if is_set]
    if len(chosen) > 1:
        raise ConfigurationError(f"{' and '.join(chosen)} say who logs in; set one of them")
    if settings.database_secret is not None:
        return StoredLogin(settings.database_secret, store="secret", setting=chosen[0])
    if settings.database_parameter is not None:
        return StoredLogin(settings.database_parameter, store="parameter", setting=chosen[0])
    if settings.database_iam:
        from tmcp_serverless.postgres.connect.iam import IamLogin  # a cold start without it is shorter

        return IamLogin()
    return None
