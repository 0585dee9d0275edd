"""Settings: `TMCP_*` environment variables or keyword arguments; `TMCP_DATABASE_URL` alone is enough."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tmcp_serverless.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Settings"]

_PREFIX = "TMCP_"

_MAY_BE_EMPTY = frozenset({"health_path", "ready_path"})
"""For any other variable, empty is the same as not set: templates set what nobody has filled in."""


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


_Names = Annotated[tuple[str, ...], BeforeValidator(_split)]

_SHORTEST_KEY_BYTES = 32


def _check_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    if any(len(key.encode()) < _SHORTEST_KEY_BYTES for key in keys):
        raise ValueError("a key has 32 bytes: python -c 'import secrets; print(secrets.token_hex(32))'")
    if len(set(keys)) < len(keys):
        raise ValueError("a key is there twice")
    return keys


class Settings(BaseModel):
    """Everything that can be configured. Each field is read from `TMCP_<FIELD>` where it is not given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: str | None = Field(default=None, repr=False)
    """The Postgres connection string, with any `sslmode`. Without a database, sessions stay in memory."""

    listen_url: str | None = Field(default=None, repr=False)
    """A direct connection to the same database, where `database_url` goes through a pooler."""

    database_secret: str | None = None
    """A secret in AWS Secrets Manager that holds what `database_url` leaves out: its name or ARN."""

    database_parameter: str | None = None
    """A parameter in AWS Systems Manager that holds what `database_url` leaves out: its name."""

    database_iam: bool = False
    """Whether an IAM token of RDS is the password. `database_url` then says the host and the user."""

    database_name: str | None = None
    """The database's name, over what a connection string or a secret says."""

    database_tls_ca: str | None = None
    """The path of a bundle of certificates, such as that of RDS: the server's is verified with it."""

    database_idle_seconds: float = Field(default=60.0, ge=0)
    """After how long the server closes a connection that nobody uses (`idle_session_timeout`); 0: never."""

    keep_connections: bool = True
    """Whether database connections stay open when a request has ended."""

    doorbell: Literal["auto", "listen", "poll"] = "auto"
    """How streams learn of news: LISTEN, polling, or whichever is found to work."""

    database_connections: int = Field(default=10, ge=1)
    """How many connections one process opens at the most, without the one that LISTENs."""

    create_tables: bool = True
    """Whether missing tables are created; if not, `tmcp-serverless migrate` has to be run before."""

    synchronous_commit: str | None = None
    """`off` makes sends faster; a database crash may then lose what was sent in its last moment."""

    session_idle_seconds: float = Field(default=86_400, gt=0)
    """How long a session that nobody uses is kept."""

    path: str = "/mcp"
    """Where the MCP endpoint is."""

    health_path: str = "/healthz"
    """Where the process says that it serves; empty: nowhere."""

    ready_path: str = "/readyz"
    """Where the process says whether its database does; empty: nowhere."""

    disable_sse: bool = False
    """Whether the standalone GET stream is refused with 405."""

    sse_path: str = "/sse"
    """Where clients of HTTP+SSE (2024-11-05) open their stream."""

    message_path: str = "/message"
    """Where clients of HTTP+SSE post their messages."""

    disable_legacy_sse: bool = False
    """Whether HTTP+SSE is not served at all."""

    answer_session_methods: bool = True
    """Whether `logging/setLevel` and `resources/subscribe` are answered for `MCPServer` and `FastMCP`."""

    request_state_keys: Annotated[_Names, AfterValidator(_check_keys)] = Field(default=(), repr=False)
    """The keys that the modern era's request states are sealed with, 32 random bytes or more each.

    The first seals, all of them open. Empty: one that is made once and kept in the database.
    """

    single_use: bool = False
    """Whether a request state may come back only once, so that no tool runs twice on the same answers."""

    replayable: _Names = ()
    """The names of tools that may be run again from the start, where their functions are not marked so."""

    cache_ttl_ms: int = Field(default=0, ge=0)
    """How long clients of the modern era may keep what a server says nothing about itself."""

    cache_scope: Literal["public", "private"] = "private"
    """Whether they may share it: `private` keeps it with whoever asked."""

    max_body_bytes: int = Field(default=4 * 1024 * 1024, gt=0)
    """The longest request body that is accepted."""

    defer_seconds: float = Field(default=5.0, ge=0)
    """How long a request may run before its answer becomes an event stream."""

    stream_max_seconds: float = Field(default=300.0, gt=0)
    """How long a standalone stream lasts at the most; clients continue after it."""

    buffered_wait_seconds: float = Field(default=20.0, ge=0)
    """How long a GET waits for events where answers are delivered whole; 0 refuses it with 405."""

    replay: bool = True
    """Whether events carry ids, so that a stream that was cut is resumed; some old clients mishandle them."""

    retry_milliseconds: int = Field(default=1_000, ge=0)
    """How long clients are asked to wait before they open a stream again."""

    allowed_hosts: _Names = ()
    """The `Host` headers that are accepted (`example.com`, `localhost:*`); empty: any."""

    allowed_origins: _Names = ()
    """The browser origins that are accepted (`https://app.example.com`, `http://localhost:*`, `*`).

    A request without an `Origin` is always accepted. Empty: the endpoint's own origin, and loopback to
    loopback.
    """

    metrics: bool = False
    """Whether metrics are written to standard output, in CloudWatch's embedded format."""

    metrics_namespace: str = "tmcp_serverless"
    """The namespace of these metrics."""

    log_format: Literal["auto", "json", "plain"] = "auto"
    """How log lines are written: `auto` is JSON on Lambda where Powertools is installed, plain elsewhere."""

    @property
    def has_database(self) -> bool:
        """Whether any setting names a database."""
        return bool(self.database_url or self.database_secret or self.database_parameter or self.database_iam)

    @classmethod
    def load(cls, *, environment: Mapping[str, str] | None = None, **given: Any) -> Self:
        """Return the settings from the environment, with what is given on top.

        Raises:
            ConfigurationError: A value is not of its setting's kind, or there is no such setting.

        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {
            name: value
            for name in cls.model_fields
            if (value := environment.get(_PREFIX + name.upper())) or (name in _MAY_BE_EMPTY and value == "")
        }
        values |= given
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            name = str(wrong["loc"][0])
            if wrong["type"] == "extra_forbidden":
                raise ConfigurationError(f"there is no setting {name!r}") from None
            source = name if name in given else _PREFIX + name.upper()
            got = "" if cls.model_fields[name].repr is False else f" (got {wrong['input']!r})"
            raise ConfigurationError(f"{source}: {wrong['msg']}{got}") from None
