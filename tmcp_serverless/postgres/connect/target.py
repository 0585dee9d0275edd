"""An address to open connections to, with its login, TLS and settings."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.postgres.connect.dsn import arguments, connect_seconds, parse
from tmcp_serverless.postgres.connect.keywords import MAKES_TLS
from tmcp_serverless.postgres.connect.tls import (
    ENCRYPTED,
    home_is_closed,
    make_context,
    optional_contexts,
    sslmode_of,
)
from tmcp_serverless.postgres.connection import Connection
from tmcp_serverless.postgres.failures import (
    REFUSED_LOGIN,
    REFUSED_SETTING,
    is_crowded,
    translated_connect_errors,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from tmcp_serverless.postgres.connect.login import Login

__all__ = ["Target"]

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 5.0
"""The time that connecting may take without a `connect_timeout`."""

_STATEMENT_SECONDS = 3.0
"""The time limit of a statement, about as long as a tick. It finds out a link that is silently dead."""

_IDLE = "idle_session_timeout"
_CHECK = "client_connection_check_interval"
"""With this setting, the server ends the statement of a client that has gone (since PostgreSQL 14, not on
every platform).
"""

_ISOLATION = {"default_transaction_isolation": "read committed"}
"""The isolation level that the statements are written for. Under a stricter level, possibly a role's default,
statements that meet at one row fail.
"""

_CHECK_SECONDS = 3.0
_VANISHED = {"tcp_user_timeout": "12000", "tcp_keepalives_idle": "6", "tcp_keepalives_interval": "3"}
"""With these settings the server gives up a client that takes nothing any more, or has vanished, after 12 s.
A frozen client holds the lock of a row while a page is being sent to it. It does not count as idle, so
idle_session_timeout does not end it.
"""

_MOST_ONE_BY_ONE = 3

_DROPPED_FIRST = (_IDLE, _CHECK, *_VANISHED)
"""If a refusal names no setting, these are left out together; the isolation level goes last."""


class Target:
    """Opens connections to one address.

    Args:
        dsn: A libpq connection string; nothing if `login` gives everything.
        setting: The source of the address, for error messages.
        login: Fills in the gaps of the connection string.
        tls_ca: The path of a bundle of certificates. The server's certificate is then verified, unless the
            connection string says otherwise.
        dbname: The database's name, over any other.
        server_settings: Settings that every connection starts with.
        idle_seconds: The server closes a connection after this time without a statement; 0 leaves it open.

    Raises:
        ConfigurationError: The DSN is not a connection string, or a keyword of it is refused.

    """

    def __init__(
        self,
        dsn: str | None,
        *,
        setting: str,
        login: Login | None = None,
        tls_ca: str | None = None,
        dbname: str | None = None,
        server_settings: Mapping[str, str] | None = None,
        idle_seconds: float = 0.0,
    ) -> None:
        self.setting = setting
        self._said: Mapping[str, str] = parse(dsn, setting=setting) if dsn else {}
        self._login = login
        self._tls_ca = tls_ca
        self._dbname = dbname
        self._server_settings = dict(server_settings or {})
        self._idle_seconds = idle_seconds
        self._refused: frozenset[str] = frozenset()

        self._context: tuple[Mapping[str, str], ssl.SSLContext | None] | None = None

    @property
    def connect_seconds(self) -> float | None:
        """The time that connecting may take, if the connection string or the environment sets it."""
        return connect_seconds(self._said)

    @property
    def takes_idle_time(self) -> bool:
        """True unless the other end has refused `idle_session_timeout`, as poolers do."""
        return _IDLE not in self._refused

    async def parameters(self, *, refused: Mapping[str, str] | None = None) -> Mapping[str, str]:
        """Return libpq's keywords for this address. They have a password among them.

        `refused` is an earlier result that the database has refused.

        Raises:
            ConfigurationError: A setting is wrong.
            StoreUnavailableError: AWS cannot be reached now.

        """
        said = self._said
        if self._login is not None:
            said = await self._login.complete(said, refused=refused)
        found = dict(said)
        if self._dbname is not None:
            found["dbname"] = self._dbname
        if self._tls_ca is not None:
            found.setdefault("sslrootcert", self._tls_ca)
            found.setdefault("sslmode", "verify-full")
        if self._login is not None:
            self._check(found, self._login)
        return found

    async def open(self, *, statement_cache_size: int, idle_seconds: float | None = None) -> Connection:
        """Open a connection. If the login is refused, it is fetched once more: it may have been rotated.

        `idle_seconds`, if given, replaces the target's own.

        Raises:
            ConfigurationError: A setting is wrong.
            StoreUnavailableError: The database, or AWS, cannot be reached now.

        """
        with translated_connect_errors(self.setting):
            parameters = await self.parameters()
            seconds = self._idle_seconds if idle_seconds is None else idle_seconds
            try:
                return await self._connect(parameters, statement_cache_size, seconds)
            except REFUSED_LOGIN as error:
                newer = await self.parameters(refused=parameters)
                if newer == parameters:
                    raise
                logger.info("the login of %s was refused, and there is a newer one: %s", self.setting, error)
                return await self._connect(newer, statement_cache_size, seconds)

    async def _connect(
        self, parameters: Mapping[str, str], statement_cache_size: int, idle_seconds: float
    ) -> Connection:
        wanted: dict[str, Any] = {
            **arguments(parameters),
            "timeout": connect_seconds(parameters) or _CONNECT_SECONDS,
            "command_timeout": _STATEMENT_SECONDS,
            "statement_cache_size": statement_cache_size,
            "connection_class": Connection,
            **_passfile(parameters),
        }
        own: dict[str, str] = wanted.pop("server_settings", {})
        extra = {_IDLE: f"{idle_seconds * 1000:.0f}"} if idle_seconds else {}
        extra |= {_CHECK: f"{_CHECK_SECONDS * 1000:.0f}", **_VANISHED, **_ISOLATION}
        refused: frozenset[str] = frozenset()
        while True:
            # Another connection may have found refused settings meanwhile.
            left_out = refused | self._refused
            taken = {name: value for name, value in extra.items() if name not in left_out}
            settings = {**self._server_settings, **taken, **own}
            try:
                connection = await self._connect_once(parameters, {**wanted, "server_settings": settings})
            except (*REFUSED_SETTING, asyncpg.InvalidParameterValueError) as error:
                more = _refused_by(
                    error, taken, {**self._server_settings, **own}, before=len(extra) - len(taken)
                )
                if not more:
                    raise
                refused |= more
                if more - self._refused:
                    logger.info("%s does without %s: %s", self.setting, ", ".join(sorted(more)), error)
                if any(_names(str(error), name) for name in more):
                    self._refused |= more
            else:
                self._refused |= refused
                _check_encoding(connection)
                return connection

    async def _connect_once(self, parameters: Mapping[str, str], wanted: dict[str, Any]) -> Connection:
        *first, last = self._ways(parameters)
        for way in first:
            try:
                return await asyncpg.connect(**wanted, **way)
            except (*REFUSED_LOGIN, ConnectionError) as error:
                logger.debug("%s: with the other way, after %r", self.setting, error)
        return await asyncpg.connect(**wanted, **last)

    def _ways(self, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return asyncpg's argument `ssl` for each attempt: a cached context, or none."""
        if parameters.get("host", "").startswith("/"):
            return [{"ssl": False}]  # A unix socket has no TLS in any mode.
        relevant = {key: value for key, value in parameters.items() if key in MAKES_TLS}
        if self._context is None or self._context[0] != relevant:
            self._context = relevant, self._make_context(relevant)
        if self._context[1] is not None:
            return [{"ssl": self._context[1]}]
        return [{"ssl": each} for each in optional_contexts(relevant)] if home_is_closed() else [{}]

    def _make_context(self, relevant: Mapping[str, str]) -> ssl.SSLContext | None:
        try:
            return make_context(relevant)
        except ConfigurationError as error:
            if self._tls_ca is None or relevant.get("sslrootcert") != self._tls_ca:
                raise
            named = str(error).replace("sslrootcert:", "TMCP_DATABASE_TLS_CA:", 1)
            raise ConfigurationError(named) from error

    def _check(self, found: dict[str, str], login: Login) -> None:
        if "host" not in found:
            raise ConfigurationError(
                f"{self.setting} says no host: set TMCP_DATABASE_URL to postgresql://host:port beside it"
            )
        if "dbname" not in found:
            raise ConfigurationError(f"{self.setting} says no database: set TMCP_DATABASE_NAME")
        if login.needs_tls:
            found.setdefault("sslmode", "require")
            if sslmode_of(found) not in ENCRYPTED:
                raise ConfigurationError(
                    f"an IAM token is sent over TLS alone: sslmode={found['sslmode']} would not do"
                )


def _refused_by(
    error: BaseException, taken: Mapping[str, str], own: Mapping[str, str], *, before: int
) -> frozenset[str]:
    """Return the settings to leave out at the next attempt: those that the message names, else several.

    The result is empty if the connection was refused for another reason, such as a keyword of the connection
    string: these are never left out. A pooler that has refused several settings one by one (`before`) is
    taken to refuse the others too: each attempt is a connection.
    """
    message = str(error)
    if is_crowded(error) or any(_names(message, name) for name in own):
        return frozenset()
    if named := frozenset(name for name in taken if _names(message, name)):
        # A wrong `idle_session_timeout` is the fault of TMCP_DATABASE_IDLE_SECONDS, and is not left out.
        if isinstance(error, asyncpg.InvalidParameterValueError):
            return named - {_IDLE}
        if isinstance(error, asyncpg.ProtocolViolationError) and before + 1 >= _MOST_ONE_BY_ONE:
            return named | frozenset(taken).intersection(_DROPPED_FIRST)
        return named
    if isinstance(error, asyncpg.InvalidParameterValueError):
        return frozenset()
    return frozenset(taken).intersection(_DROPPED_FIRST) or frozenset(taken)


def _names(message: str, setting: str) -> bool:
    return re.search(rf"\b{re.escape(setting)}\b", message, re.IGNORECASE) is not None


def _check_encoding(connection: Connection) -> None:
    encoding = getattr(connection.get_settings(), "server_encoding", "UTF8")
    if encoding != "UTF8":
        connection.terminate()
        raise ConfigurationError(
            f"the database's encoding is {encoding}, which cannot hold every text: use a database made "
            "with ENCODING 'UTF8' TEMPLATE template0"
        )


def _passfile(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return arguments that keep asyncpg from failing at an unreadable password file: libpq passes it over.

    Raises:
        ConfigurationError: The connection string names that file.

    """
    if named := parameters.get("passfile"):
        if not os.access(named, os.R_OK):
            raise ConfigurationError(f"passfile: {named} cannot be read")
        return {}
    try:
        default = Path(os.environ.get("PGPASSFILE") or Path.home() / ".pgpass")
    except RuntimeError:
        return {}
    try:
        is_closed = default.exists() and not os.access(default, os.R_OK)
    except OSError:
        is_closed = True
    return {"passfile": f"{os.devnull}/none"} if is_closed else {}
