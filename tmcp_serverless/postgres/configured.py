"""The database that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.postgres.database import Database
from tmcp_serverless.postgres.login import StoredLogin

if TYPE_CHECKING:
    from tmcp_serverless.config import Settings
    from tmcp_serverless.postgres.login import Login

__all__ = ["database_for"]


def database_for(settings: Settings) -> Database:
    """Return the configured database. Nothing is opened or fetched before the first statement.

    Raises:
        ConfigurationError: There is none, or two settings contradict each other.

    """
    if not settings.has_database:
        raise ConfigurationError("there is no database: set TMCP_DATABASE_URL")
    commit = settings.synchronous_commit
    return Database(
        settings.database_url,
        listen_dsn=settings.listen_url,
        size=settings.database_connections,
        server_settings={"synchronous_commit": commit} if commit else None,
        setting=_source(settings),
        login=_login(settings),
        tls_ca=settings.database_tls_ca,
        dbname=settings.database_name,
        idle_seconds=settings.database_idle_seconds,
    )


def _source(settings: Settings) -> str:
    if settings.database_secret is not None:
        return "TMCP_DATABASE_SECRET"
    if settings.database_parameter is not None:
        return "TMCP_DATABASE_PARAMETER"
    return "TMCP_DATABASE_URL"


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
        from tmcp_serverless.postgres.iam import IamLogin  # noqa: PLC0415 - a cold start without it is shorter

        return IamLogin()
    return None
