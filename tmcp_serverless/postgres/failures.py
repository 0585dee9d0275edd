"""Which driver errors mean what: the only place that tells them apart."""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import asyncpg

from tmcp_serverless.errors import ConfigurationError, SchemaError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = [
    "LOST_LINK",
    "MISSING_SCHEMA",
    "POOLED_STATEMENT",
    "REFUSED_LOGIN",
    "REFUSED_SETTING",
    "ROLLED_BACK",
    "connecting",
    "schema_error",
]

LOST_LINK = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.IdleSessionTimeoutError,
    asyncpg.exceptions.InsufficientResourcesError,
    OSError,
    TimeoutError,
)
"""What asyncpg raises when the link to the database is gone, or the database is going, full or starting."""

MISSING_SCHEMA = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidSchemaNameError,
)
"""What a statement raises when the tables are not there, or are older than it."""

ROLLED_BACK = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""What a statement raises that was rolled back for the sake of another: it can simply be run again."""

POOLED_STATEMENT = (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError)
"""What a prepared statement raises behind a pooler in transaction mode that does not know about them."""

REFUSED_LOGIN = (asyncpg.InvalidAuthorizationSpecificationError,)
"""What connecting raises when user or password are wrong, `InvalidPasswordError` among them."""

REFUSED_SETTING = (
    asyncpg.UndefinedObjectError,
    asyncpg.ProtocolViolationError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.CantChangeRuntimeParamError,
    asyncpg.InsufficientPrivilegeError,
)
"""What connecting raises when the server, or a pooler before it, does not take a setting at the start."""

_WRONG_DSN = (
    asyncpg.InvalidCatalogNameError,
    asyncpg.exceptions.ClientConfigurationError,
    ssl.SSLCertVerificationError,
    *REFUSED_LOGIN,
)


def schema_error(error: BaseException | str) -> SchemaError:
    """Return the error that says which command makes the tables."""
    return SchemaError(
        f"the tables of tmcp_serverless are missing or older than this release ({error}); "
        "run `tmcp-serverless migrate`, or pass create=True"
    )


@contextmanager
def connecting(setting: str) -> Generator[None]:
    """Turn what goes wrong while connecting into one sentence that names the setting."""
    try:
        yield
    except _WRONG_DSN as error:
        raise ConfigurationError(f"{setting} does not work: {error}") from error
    except REFUSED_SETTING as error:
        if isinstance(error, LOST_LINK) and "startup parameter" not in str(error):
            raise StoreUnavailableError(f"cannot connect to the database in {setting}: {error!r}") from error
        raise ConfigurationError(f"{setting} does not work: {error}") from error
    except LOST_LINK as error:
        raise StoreUnavailableError(f"cannot connect to the database in {setting}: {error!r}") from error
    except ValueError as error:
        raise ConfigurationError(f"{setting} is not a Postgres connection string: {error}") from error
