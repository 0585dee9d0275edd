"""Logins for connection strings without one: a secret, a parameter, or an IAM token of RDS.

Values are fetched from AWS in a thread, for boto3 blocks. They are kept until the database refuses them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from tmcp_serverless.errors import ConfigurationError, StoreUnavailableError, TmcpError
from tmcp_serverless.postgres.connect.dsn import checked, parse
from tmcp_serverless.postgres.connect.keywords import KEYWORDS, canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Login", "StoredLogin", "in_thread", "keep_secrets_out_of_logs", "missing_extra"]

_FETCH_SECONDS = 15.0
_REFETCH_SECONDS = 1.0
"""The shortest time between fetches from AWS: a login that is simply wrong is refused at every request."""

_WRONG = frozenset(
    {
        *("AccessDeniedException", "DecryptionFailure", "InvalidKeyId", "ParameterNotFound"),
        *("ParameterVersionNotFound", "ResourceNotFoundException", "UnrecognizedClientException"),
        *("ValidationException", "InvalidClientTokenId", "InvalidRequestException"),
    }
)
"""The names of AWS errors that no later attempt changes."""

_WHOLE = (
    "TMCP_DATABASE_URL",
    "DATABASE_URL",
    "POSTGRES_URL",
    "connection_string",
    "connectionString",
    "dsn",
    "url",
)
"""The keys of whole connection strings in a JSON object."""


class Login(Protocol):
    """A login that fills in the gaps of a connection string."""

    needs_tls: bool
    """True if its values must not be sent in the clear."""

    async def complete(
        self, parameters: Mapping[str, str], *, refused: Mapping[str, str] | None = None
    ) -> Mapping[str, str]:
        """Return the keywords of a connection, made from those of the connection string.

        `refused` is an earlier result, with the additions of other settings, that the database has refused: a
        newer login is wanted. The result may still be the same.

        Raises:
            ConfigurationError: A setting is wrong.
            StoreUnavailableError: AWS cannot be reached now.

        """
        ...


Store: TypeAlias = Literal["secret", "parameter"]


class StoredLogin:
    """A connection string, or the JSON that RDS writes, in Secrets Manager or SSM's Parameter Store.

    The application's own connection string comes first: with `postgresql://proxy.example/orders` beside it,
    the stored user and password are used at that address.

    Args:
        name: The secret's name or ARN, or the parameter's name.
        store: The kind of `name`: `secret` or `parameter`.
        setting: The source of the name, for error messages.

    """

    needs_tls = False

    def __init__(self, name: str, *, store: Store, setting: str) -> None:
        self._name = name
        self._store: Store = store
        self._setting = setting
        self._stored: dict[str, str] | None = None
        self._fetched_at = 0.0
        self._fetching = threading.Lock()

    async def complete(
        self, parameters: Mapping[str, str], *, refused: Mapping[str, str] | None = None
    ) -> Mapping[str, str]:
        """Return the keywords, filled up with the stored ones."""
        stored = self._stored
        if stored is None or (refused is not None and _login(refused) == _login({**stored, **parameters})):
            stored = await in_thread(lambda: self._renew(stored), self._setting)
        return {**stored, **parameters}

    def _renew(self, known: dict[str, str] | None) -> dict[str, str]:
        # Many connections may be refused at the same time: the first one fetches, the others take its result.
        with self._fetching:
            due = time.time() - self._fetched_at >= _REFETCH_SECONDS
            if self._stored is None or (self._stored is known and due):
                text = _fetch(self._name, self._store, self._setting, force=self._stored is not None)
                self._stored = _read(text, self._setting)
                self._fetched_at = time.time()
            return self._stored


def _login(parameters: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the user and the password. Other refused keywords may come from other settings."""
    return parameters.get("user"), parameters.get("password")


def _fetch(name: str, store: Store, setting: str, *, force: bool) -> str:
    try:
        from aws_lambda_powertools.utilities import parameters as powertools  # an extra
        from botocore.config import Config  # the same
    except ImportError:
        raise missing_extra(setting) from None
    keep_secrets_out_of_logs()
    # By default botocore waits for a minute, several times over.
    config = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2})
    try:
        if store == "secret":
            value: Any = powertools.SecretsProvider(boto_config=config).get(name, force_fetch=force)
        else:
            value = powertools.SSMProvider(boto_config=config).get(name, decrypt=True, force_fetch=force)
    except Exception as error:
        # The original error is `__context__`; Powertools wraps everything in GetParameterError.
        cause = error.__context__ if isinstance(error, powertools.GetParameterError) else error
        code: str = getattr(cause, "response", {}).get("Error", {}).get("Code", "")
        if code in _WRONG or type(cause).__name__ in ("NoCredentialsError", "NoRegionError"):
            raise ConfigurationError(f"{setting}: the {store} cannot be read: {cause}") from error
        raise StoreUnavailableError(f"{setting}: the {store} cannot be fetched now: {cause!r}") from error
    return value.decode() if isinstance(value, bytes) else str(value)


def _read(text: str, setting: str) -> dict[str, str]:
    """Return the keywords in the stored text: a connection string's, or those of RDS's JSON."""
    text = text.strip()
    if not text.startswith("{"):
        return parse(text, setting=f"what {setting} names")
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        raise ConfigurationError(f"what {setting} names begins like JSON and is none") from None
    if "postgres" not in (engine := str(found.get("engine", "postgres"))):
        raise ConfigurationError(f"what {setting} names is for the engine {engine!r}, and not for Postgres")
    for key in _WHOLE:
        if isinstance(whole := found.get(key), str) and "password" not in found:
            return parse(whole, setting=f"{key} of what {setting} names")
    # The other keys of RDS, such as the instance's identifier, do not describe the connection.
    said = [
        (key, str(value)) for key, value in found.items() if canonical(key) in KEYWORDS and value is not None
    ]
    stored = checked(said, setting=f"what {setting} names")
    if not {"user", "password"} <= stored.keys():
        raise ConfigurationError(f"what {setting} names has no `username` and `password`")
    return stored


async def in_thread(work: Callable[[], Any], setting: str) -> Any:
    """Run a blocking function in a thread, for a bounded time.

    Raises:
        StoreUnavailableError: The function took too long. The thread is left to end by itself.

    """
    try:
        async with asyncio.timeout(_FETCH_SECONDS):
            return await asyncio.to_thread(work)
    except TimeoutError:
        raise StoreUnavailableError(
            f"{setting}: AWS did not answer within {_FETCH_SECONDS:.0f} s "
            "(a function in a VPC needs an endpoint or a NAT gateway for it)"
        ) from None


def keep_secrets_out_of_logs() -> None:
    """Keep botocore from logging at DEBUG: it would log whole answers and signed requests.

    Among them are the database's password, and the session token of the function's role. A logger below
    `botocore` with its own level keeps that level.
    """
    for name in ("botocore", "boto3"):
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() < logging.INFO:
            logger.setLevel(logging.INFO)


def missing_extra(setting: str) -> TmcpError:
    """Return the error that names the extra to install."""
    return ConfigurationError(f"{setting} needs the extra `aws`: run `pip install 'tmcp-serverless[aws]'`")
