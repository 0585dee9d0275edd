"""Settings: `TMCP_*` environment variables or keyword arguments; `TMCP_DATABASE_URL` alone is enough."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar, Unpack

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FieldSerializationInfo,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
)

from tmcp_serverless import forms
from tmcp_serverless.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance
    from pydantic.fields import FieldInfo

    from tmcp_serverless.overrides import SettingsOverrides

__all__ = ["Settings", "unknown_variables"]

_PREFIX = "TMCP_"

_MAY_BE_EMPTY = frozenset({"health_path", "ready_path"})
"""For any other variable, empty is the same as not set: templates set what nobody has filled in."""

_OF_OTHERS = frozenset(
    {"TMCP_BUILD_NATIVE", "TMCP_LOCAL_PORT", "TMCP_POSTGRES_BIN", "TMCP_TEST_DATABASE_URL"}
)
"""What the build script, local demos, the embedded PostgreSQL and the tests read."""

_LONGEST_SECONDS = 100 * 365 * 86_400.0
"""Longer times are mistakes, and beyond what an event loop or Postgres can add to now."""

_LONGEST_IDLE_SECONDS = 2_147_483.0
"""Postgres keeps `idle_session_timeout` in milliseconds, in 31 bits."""

_Names = Annotated[tuple[str, ...], BeforeValidator(forms.split)]
_Hosts = Annotated[_Names, AfterValidator(forms.check_hosts)]
_Origins = Annotated[_Names, AfterValidator(forms.check_origins)]
_Keys = Annotated[_Names, AfterValidator(forms.check_keys)]
_Path = Annotated[str, AfterValidator(forms.check_path)]
_Namespace = Annotated[str, AfterValidator(forms.check_namespace)]
_Schema = Annotated[str, AfterValidator(forms.check_schema)]


_Options = TypeVar("_Options", bound="DataclassInstance")


class Settings(BaseModel):
    """Everything that can be configured.

    `Settings(...)` is what is given, with defaults for the rest; the environment is not read. `Settings.load`
    reads each field from `TMCP_<FIELD>` where it is not given. `repr`, `model_dump` and
    `model_dump_json` hide connection strings and keys; the attributes have them.

    Raises:
        ConfigurationError: A value is not of its setting's kind, or there is no such setting.

    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    database_url: str | None = Field(default=None, repr=False)
    """The Postgres connection string, as libpq reads it, with any `sslmode`.

    Without a database, sessions stay in the memory of the process, and a warning says so.
    """

    listen_url: str | None = Field(default=None, repr=False)
    """A direct connection to the same database, for LISTEN, if `database_url` goes through a pooler."""

    database_secret: str | None = None
    """A secret in AWS Secrets Manager that holds what `database_url` leaves out: its name or ARN."""

    database_parameter: str | None = None
    """A parameter in AWS Systems Manager that holds what `database_url` leaves out: its name."""

    database_iam: bool = False
    """Uses an IAM token of RDS as the password. `database_url` then names the host and the user."""

    database_name: str | None = None
    """The database's name. It overrides the name in a connection string or a secret."""

    database_tls_ca: str | None = None
    """The path of a bundle of CA certificates, such as that of RDS, that verifies the server's."""

    database_idle_seconds: float = Field(default=60.0, ge=0, le=_LONGEST_IDLE_SECONDS)
    """The server closes a connection that was idle for so long (`idle_session_timeout`). 0: never."""

    keep_connections: bool = True
    """Keeps database connections open after a request has ended."""

    doorbell: Literal["auto", "listen", "poll"] = "auto"
    """The way in which streams learn of new messages: `listen` (LISTEN and NOTIFY) or `poll`.

    `auto` tests LISTEN and falls back to polling.
    """

    database_connections: int = Field(default=10, ge=1)
    """The most connections that one process opens, without the one that LISTENs."""

    namespace: _Namespace | None = None
    """The server's part of the tables, apart from other servers on the same database.

    The default is the server's name. Set it before you rename a server whose sessions have to survive.
    """

    schema_name: _Schema | None = Field(default=None, alias="schema")
    """The schema of the tables. The default is the first schema in the search path that the role may use."""

    create_tables: bool = True
    """Creates missing tables.

    `false`: the kit issues no DDL, and `tmcp-serverless migrate` has to run before.
    """

    synchronous_commit: str | None = None
    """Postgres's `synchronous_commit` for sends. The default is the server's.

    `off` makes sends faster. A crash of the database may then lose the last messages.
    """

    session_idle_seconds: float = Field(default=86_400, gt=0, le=_LONGEST_SECONDS)
    """An unused session is kept for so long."""

    path: _Path = "/mcp"
    """The path of the MCP endpoint."""

    health_path: _Path = "/healthz"
    """The path of the liveness check, which answers without the database. Empty: none."""

    ready_path: _Path = "/readyz"
    """The path of the readiness check, which asks the database. Empty: none."""

    disable_sse: bool = False
    """Refuses the standalone GET stream with 405. A request's own stream can still be resumed."""

    sse_path: _Path = "/sse"
    """The path at which clients of HTTP+SSE (2024-11-05) open their stream."""

    message_path: _Path = "/message"
    """The path to which clients of HTTP+SSE post their messages."""

    disable_legacy_sse: bool = False
    """Does not serve HTTP+SSE."""

    answer_session_methods: bool = True
    """Answers `logging/setLevel` and `resources/subscribe` for `MCPServer` and `FastMCP`.

    These have no handlers for them.
    """

    request_state_keys: _Keys = Field(default=(), repr=False)
    """The keys that seal request states of the modern era, 32 random bytes or more each.

    The first key seals, all of them open. By default one key is made once and kept in the database.
    """

    single_use: bool = False
    """Accepts a request state only once, so that no tool runs twice on the same answers."""

    replayable: _Names = ()
    """The names of tools that may run again from the start, beside those marked `@replayable`."""

    cache_ttl_ms: int = Field(default=0, ge=0)
    """The time (ms) for which 2026-07-28 clients may cache results without a cache hint of the server's."""

    cache_scope: Literal["public", "private"] = "private"
    """The cache hint's scope. `private`: only the requesting user's cache; `public`: shared caches too."""

    max_body_bytes: int = Field(default=4 * 1024 * 1024, gt=0)
    """The longest request body. A longer one is refused with 413."""

    max_body_values: int = Field(default=10_000, ge=100)
    """The most JSON values, and names of members, in a request body. One with more is refused with 413.

    A process serves nobody else while it reads them, and some take several microseconds each. A text is one
    value at any length.
    """

    max_batch: int = Field(default=100, ge=1, le=10_000)
    """The most messages in a batch (2025-03-26). A longer one is refused with 400."""

    max_subscriptions: int = Field(default=1_000, ge=0)
    """The most resources that one session may subscribe to. One more is refused with "invalid params"."""

    max_sessions: int = Field(default=1_000, ge=1)
    """The most sessions of one user. A new one ends those that were not used for the longest time.

    Sessions without a user (no authentication) are not counted: they expire after `session_idle_seconds`.
    """

    max_inbox_bytes: int = Field(default=32 * 1024 * 1024, gt=0)
    """The most bytes that a client's replies to server requests take in a session. More are a 429."""

    max_connections: int | None = Field(default=None, ge=8)
    """The most connections of clients that a container's process has open.

    Beyond it the connection that waits longest without a request is closed. If every connection has one, a
    new one is answered with 503. The default is three quarters of the files that the process may open, or
    more.
    """

    max_bytes_in_flight: int = Field(default=128 * 1024 * 1024, ge=1024 * 1024)
    """The most bytes of requests and unread responses in a container's process.

    Beyond it a body is refused with 503, and the transfers that stand still for longest are cut off. One body
    alone is always accepted. Set about a quarter of the process's memory.
    """

    client_seconds: float = Field(default=30.0, ge=0.1, le=3_600)
    """The time that a client of a container has for the head of a request.

    It is also the time in which a client has to send 16 KiB of a body, or read 16 KiB of a response, or all
    of it. Then its connection is closed.
    """

    defer_seconds: float = Field(default=5.0, ge=0, le=_LONGEST_SECONDS)
    """A request that runs for longer is answered with an event stream."""

    stream_max_seconds: float | None = Field(default=None, gt=0, le=_LONGEST_SECONDS)
    """The longest life of a stream that its client can continue.

    The default is no limit, and 60 seconds on a function, and there it also ends streams that cannot be
    continued. Set it a little below the request timeout of the proxy or platform in front.
    """

    function_streams: int | None = Field(default=None, ge=0)
    """The most standalone and listen streams that are open at once on all sandboxes of a function together.

    A GET beyond that is answered with the messages that there are, and ends. Every open stream holds a
    sandbox. The default is any number; `template.yaml` sets half of the reserved concurrency.
    """

    buffered_wait_seconds: float = Field(default=20.0, ge=0, le=_LONGEST_SECONDS)
    """A GET waits so long for events on hosts that deliver answers whole. 0: GET is refused with 405."""

    replay: bool = True
    """Gives events ids, so that a client can resume a broken stream. Some old clients mishandle ids."""

    retry_milliseconds: int = Field(default=1_000, ge=0)
    """The delay that clients are asked to keep before they open a stream again.

    It is the last line of a connection that ends early. 0: no such line, for clients that fail on it (Java).
    """

    allowed_hosts: _Hosts = ()
    """The accepted `Host` headers (`example.com`, `localhost:*` for any port). Others are 421.

    By default any, but a loopback address only as `localhost` or by the address (D12 in differences.md).
    """

    allowed_origins: _Origins = ()
    """The accepted browser origins (`https://app.example.com`, `http://localhost:*`, `*`). Others are 403.

    By default the endpoint's own origin, and loopback to loopback. A request without an `Origin` is accepted,
    except a GET or HEAD at a loopback address under a DNS name (D12 in differences.md).
    """

    metrics: bool = False
    """Writes metrics to standard output, in CloudWatch's embedded format, through Powertools."""

    metrics_namespace: str = "tmcp_serverless"
    """The CloudWatch namespace of these metrics."""

    log_format: Literal["auto", "json", "plain"] = "auto"
    """The form of log lines. `auto` is JSON on Lambda where Powertools is installed, plain elsewhere."""

    _url_setting: str = PrivateAttr(default="TMCP_DATABASE_URL")

    def __init__(self, **given: Unpack[SettingsOverrides]) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            raise forms.explained(wrong, self.fields_by_name()) from None
        if clash := forms.clash_of_paths(self):
            raise ConfigurationError(clash)

    @classmethod
    def fields_by_name(cls) -> dict[str, FieldInfo]:
        """Return the fields by the names that they are given by."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    @field_serializer("*", mode="wrap")
    def _without_secrets(
        self, value: Any, handler: SerializerFunctionWrapHandler, info: FieldSerializationInfo
    ) -> Any:
        """Hide in dumps the settings that `repr` hides."""
        field = type(self).model_fields[info.field_name]
        return handler(value) if field.repr else forms.hidden(value)

    @classmethod
    def _attributes(cls) -> dict[str, str]:
        return {field.alias or name: name for name, field in cls.model_fields.items()}

    def options(self, kind: type[_Options]) -> _Options:
        """Return the options of a part: a dataclass with names of settings as its fields."""
        return kind(**{option.name: getattr(self, option.name) for option in fields(kind)})

    @property
    def has_database(self) -> bool:
        """Whether any setting names a database."""
        return bool(self.database_url or self.database_secret or self.database_parameter or self.database_iam)

    @property
    def database_setting(self) -> str:
        """What says where the database is, for error messages."""
        if self.database_secret is not None:
            return "TMCP_DATABASE_SECRET"
        if self.database_parameter is not None:
            return "TMCP_DATABASE_PARAMETER"
        return self._url_setting

    @classmethod
    def load(
        cls, *, environment: Mapping[str, str] | None = None, **given: Unpack[SettingsOverrides]
    ) -> Self:
        """Return the settings from the environment, with what is given on top.

        Raises:
            ConfigurationError: A value is not of its setting's kind, or there is no such setting.

        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {
            name: value
            for name in cls.fields_by_name()
            if (value := environment.get(_PREFIX + name.upper())) or (name in _MAY_BE_EMPTY and value == "")
        }
        together: dict[str, Any] = {**values, **given}
        try:
            return cls(**together)
        except ConfigurationError as error:
            field, colon, what = str(error).partition(": ")
            if not colon or field not in values or field in given:
                raise
            raise ConfigurationError(f"{_PREFIX}{field.upper()}: {what}") from None

    def but(self, **overrides: Unpack[SettingsOverrides]) -> Self:
        """Return these settings with others on top. The environment is not read.

        Raises:
            ConfigurationError: A value is not of its setting's kind, or there is no such setting.

        """
        given = {
            name: getattr(self, field)
            for name, field in self._attributes().items()
            if field in self.model_fields_set
        }
        together: dict[str, Any] = {**given, **overrides}
        return type(self)(**together).with_url_from(self._url_setting)

    def with_url_from(self, setting: str) -> Self:
        """Return the same, with another name for what said `database_url`, for error messages."""
        other = self.model_copy()
        other._url_setting = setting  # noqa: SLF001 - it is one of us
        return other


def unknown_variables(environment: Mapping[str, str] | None = None) -> list[str]:
    """Return a sentence for each variable that begins like a setting's and is none's."""
    known = [name.upper() for name in Settings.fields_by_name()]
    return [
        f"{name} is no setting{forms.hint(name.removeprefix(_PREFIX), known, prefix=_PREFIX)}"
        for name in sorted(os.environ if environment is None else environment)
        if name.startswith(_PREFIX) and name not in _OF_OTHERS and name.removeprefix(_PREFIX) not in known
    ]
