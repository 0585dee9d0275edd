"""Who logs in, where the connection string does not say: a secret, a parameter, or an IAM token of RDS.

What AWS says is fetched in a thread, for boto3 blocks; it is kept until the database refuses it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from tmcp_serverless.errors import ConfigurationError, StoreUnavailableError, TmcpError
from tmcp_serverless.postgres.dsn import checked, parse
from tmcp_serverless.postgres.keywords import KEYWORDS, canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Login", "StoredLogin", "in_thread", "keep_secrets_out_of_logs", "missing_extra"]

_FETCH_SECONDS = 15.0
_REFETCH_SECONDS = 1.0
"""A login that is simply wrong is refused at every request: AWS is asked again once a second at the most."""

_WRONG = frozenset(
    {
        *("AccessDeniedException", "DecryptionFailure", "InvalidKeyId", "ParameterNotFound"),
        *("ParameterVersionNotFound", "ResourceNotFoundException", "UnrecognizedClientException"),
        *("ValidationException", "InvalidClientTokenId", "InvalidRequestException"),
    }
)
"""What no later attempt changes, by the names that AWS gives its errors."""

_WHOLE = (
    "TMCP_DATABASE_URL",
    "DATABASE_URL",
    "POSTGRES_URL",
    "connection_string",
    "connectionString",
    "dsn",
    "url",
)
"""The keys under which a JSON object has a whole connection string."""


class Login(Protocol):
    """Fills in what a connection string leaves out."""

    needs_tls: bool
    """Whether what it fills in must not be sent in the clear."""

    async def complete(
        self, parameters: Mapping[str, str], *, refused: Mapping[str, str] | None = None
    ) -> Mapping[str, str]:
        """Return the keywords of a connection, made from those of the connection string.

        `refused` is what was returned before, with what other settings have added, and has been refused by
        the database: something newer is wanted. What is returned may still be the same.

        Raises:
            ConfigurationError: A setting is wrong.
            StoreUnavailableError: AWS cannot be reached now.

        """
        ...


Store: TypeAlias = Literal["secret", "parameter"]


class StoredLogin:
    """A connection string, or the JSON that RDS writes, in Secrets Manager or SSM's Parameter Store.

    What the application's own connection string says comes first: with `postgresql://proxy.example/orders`
    beside it, the stored user and password are used at that address.

    Args:
        name: The secret's name or ARN, or the parameter's name.
        store: Which of the two it is.
        setting: Where the name comes from, for error messages.

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
        """Return the keywords, with the stored ones where nothing is said."""
        stored = self._stored
        if stored is None or (refused is not None and _login(refused) == _login({**stored, **parameters})):
            stored = await in_thread(lambda: self._renew(stored), self._setting)
        return {**stored, **parameters}

    def _renew(self, known: dict[str, str] | None) -> dict[str, str]:
        # Many connections may be refused at the same time: the first one asks, the others take its answer.
        with self._fetching:
            due = time.time() - self._fetched_at >= _REFETCH_SECONDS
            if self._stored is None or (self._stored is known and due):
                text = _fetch(self._name, self._store, self._setting, force=self._stored is not None)
                self._stored = _read(text, self._setting)
                self._fetched_at = time.time()
            return self._stored


def _login(parameters: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return who logs in. The rest of what was refused may come from other settings."""
    return parameters.get("user"), parameters.get("password")


def _fetch(name: str, store: Store, setting: str, *, force: bool) -> str:
    try:
        from aws_lambda_powertools.utilities import parameters as powertools  # noqa: PLC0415 - an extra
        from botocore.config import Config  # noqa: PLC0415 - the same
    except ImportError:
        raise missing_extra(setting) from None
    keep_secrets_out_of_logs()
    # The defaults are to wait for a minute, several times over.
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
    """Return the keywords that the stored text says: a connection string's, or those of RDS's JSON."""
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
    # The other keys of RDS, such as the instance's identifier, say nothing of the connection.
    said = [
        (key, str(value)) for key, value in found.items() if canonical(key) in KEYWORDS and value is not None
    ]
    stored = checked(said, setting=f"what {setting} names")
    if not {"user", "password"} <= stored.keys():
        raise ConfigurationError(f"what {setting} names has no `username` and `password`")
    return stored


async def in_thread(work: Callable[[], Any], setting: str) -> Any:
    """Run what blocks, for a bounded time.

    Raises:
        StoreUnavailableError: It took too long. The thread is left to end by itself.

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
    """Keep botocore from writing to the log at DEBUG: it writes whole answers and signed requests there.

    Among them are the database's password, and the session token of the function's role. A logger that has a
    level of its own below `botocore` keeps it.
    """
    for name in ("botocore", "boto3"):
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() < logging.INFO:
            logger.setLevel(logging.INFO)


def missing_extra(setting: str) -> TmcpError:
    """Return the error that says what to install."""
    return ConfigurationError(f"{setting} needs the extra `aws`: run `pip install 'tmcp-serverless[aws]'`")
