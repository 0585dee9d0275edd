"""Settings: `TMCP_*` environment variables or keyword arguments; `TMCP_DATABASE_URL` alone is enough."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Unpack

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
)

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.forms import (
    check_hosts,
    check_keys,
    check_origins,
    check_path,
    check_schema,
    clash_of_paths,
)
from tmcp_serverless.namespaces import check_namespace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

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


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


_Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
_Hosts = Annotated[_Names, AfterValidator(check_hosts)]
_Origins = Annotated[_Names, AfterValidator(check_origins)]
_Keys = Annotated[_Names, AfterValidator(check_keys)]
_Path = Annotated[str, AfterValidator(check_path)]
_Schema = Annotated[str, AfterValidator(check_schema)]


class Settings(BaseModel):
    """Everything that can be configured.

    `Settings(...)` is what is given, with defaults for the rest; the environment is not read. `Settings.load`
    reads each field from `TMCP_<FIELD>` where it is not given.

    Raises:
        ConfigurationError: A value is not of its setting's kind, or there is no such setting.

    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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

    database_idle_seconds: float = Field(default=60.0, ge=0, le=_LONGEST_IDLE_SECONDS)
    """After how long the server closes a connection that nobody uses (`idle_session_timeout`); 0: never."""

    keep_connections: bool = True
    """Whether database connections stay open when a request has ended."""

    doorbell: Literal["auto", "listen", "poll"] = "auto"
    """How streams learn of news: LISTEN, polling, or whichever is found to work."""

    database_connections: int = Field(default=10, ge=1)
    """How many connections one process opens at the most, without the one that LISTENs."""

    namespace: Annotated[str, AfterValidator(check_namespace)] | None = None
    """The part of the tables that is this server's, apart from others on the same database.

    By default the server's name. A server that is renamed keeps its sessions where this is set.
    """

    schema_name: _Schema | None = Field(default=None, alias="schema")
    """The schema of the tables: `schema=`, `TMCP_SCHEMA`. By default the first that the role may use.

    (A model of pydantic has a `schema` of its own.)
    """

    create_tables: bool = True
    """Whether missing tables are created; if not, `tmcp-serverless migrate` has to be run before."""

    synchronous_commit: str | None = None
    """`off` makes sends faster; a database crash may then lose what was sent in its last moment."""

    session_idle_seconds: float = Field(default=86_400, gt=0, le=_LONGEST_SECONDS)
    """How long a session that nobody uses is kept."""

    path: _Path = "/mcp"
    """Where the MCP endpoint is."""

    health_path: _Path = "/healthz"
    """Where the process says that it serves; empty: nowhere."""

    ready_path: _Path = "/readyz"
    """Where the process says whether its database does; empty: nowhere."""

    disable_sse: bool = False
    """Whether the standalone GET stream is refused with 405."""

    sse_path: _Path = "/sse"
    """Where clients of HTTP+SSE (2024-11-05) open their stream."""

    message_path: _Path = "/message"
    """Where clients of HTTP+SSE post their messages."""

    disable_legacy_sse: bool = False
    """Whether HTTP+SSE is not served at all."""

    answer_session_methods: bool = True
    """Whether `logging/setLevel` and `resources/subscribe` are answered for `MCPServer` and `FastMCP`."""

    request_state_keys: _Keys = Field(default=(), repr=False)
    """The keys that the modern era's request states are sealed with, 32 random bytes or more each.

    The first seals, all of them open. Empty: one that is made once and kept in the database.
    """

    single_use: bool = False
    """Whether a request state may come back only once, so that no tool runs twice on the same answers."""

    replayable: _Names = ()
    """The names of tools that may be run again from the start, where their functions are not marked so."""

    cache_ttl_ms: int = Field(default=0, ge=0)
    """For how long (ms) 2026-07-28 clients may cache results for which the server gives no cache hint."""

    cache_scope: Literal["public", "private"] = "private"
    """`private`: only the requesting user's cache; `public`: shared caches too."""

    max_body_bytes: int = Field(default=4 * 1024 * 1024, gt=0)
    """The longest request body that is accepted."""

    defer_seconds: float = Field(default=5.0, ge=0, le=_LONGEST_SECONDS)
    """How long a request may run before its answer becomes an event stream."""

    stream_max_seconds: float | None = Field(default=None, gt=0, le=_LONGEST_SECONDS)
    """How long a stream that its client can continue lasts at the most.

    By default without an end, and 300 seconds on a function, which also ends those that cannot be continued.
    """

    buffered_wait_seconds: float = Field(default=20.0, ge=0, le=_LONGEST_SECONDS)
    """How long a GET waits for events where answers are delivered whole; 0 refuses it with 405."""

    replay: bool = True
    """Whether events carry ids, so that a stream that was cut is resumed; some old clients mishandle them."""

    retry_milliseconds: int = Field(default=1_000, ge=0)
    """How long clients are asked to wait before they open a stream again; 0: they are not asked."""

    allowed_hosts: _Hosts = ()
    """The `Host` headers that are accepted (`example.com`, `localhost:*`); empty: any."""

    allowed_origins: _Origins = ()
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

    _url_setting: str = PrivateAttr(default="TMCP_DATABASE_URL")

    def __init__(self, **given: Unpack[SettingsOverrides]) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise _explained(error.errors(include_url=False)[0], type(self)) from None
        if clash := clash_of_paths(self):
            raise ConfigurationError(clash)

    @classmethod
    def fields_by_name(cls) -> dict[str, FieldInfo]:
        """Return the fields by the names that they are given by."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

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
        together: dict[str, Any] = {**self.model_dump(exclude_unset=True, by_alias=True), **overrides}
        return type(self)(**together).with_url_from(self._url_setting)

    def with_url_from(self, setting: str) -> Self:
        """Return the same, with another name for what said `database_url`, for error messages."""
        other = self.model_copy()
        other._url_setting = setting  # noqa: SLF001 - it is one of us
        return other


def _explained(wrong: ErrorDetails, settings: type[Settings]) -> ConfigurationError:
    """Return the error whose message begins with the field's name and a colon."""
    name = str(wrong["loc"][0])
    if wrong["type"] == "extra_forbidden":
        return ConfigurationError(f"there is no setting {name!r}{_hint(name, settings.fields_by_name())}")
    if (ours := wrong.get("ctx", {}).get("error")) is not None:
        # It says in whole what is wrong; pydantic would write "Value error, " in front of it.
        return ConfigurationError(f"{name}: {ours}")
    got = "" if settings.fields_by_name()[name].repr is False else f" (got {wrong['input']!r})"
    return ConfigurationError(f"{name}: {wrong['msg']}{got}")


def unknown_variables(environment: Mapping[str, str] | None = None) -> list[str]:
    """Return a sentence for each variable that begins like a setting's and is none's."""
    known = [name.upper() for name in Settings.fields_by_name()]
    return [
        f"{name} is no setting{_hint(name.removeprefix(_PREFIX), known, prefix=_PREFIX)}"
        for name in sorted(os.environ if environment is None else environment)
        if name.startswith(_PREFIX) and name not in _OF_OTHERS and name.removeprefix(_PREFIX) not in known
    ]


def _hint(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; is {prefix}{near[0]} meant?" if near else ""
