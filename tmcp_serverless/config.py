"""Settings: `TMCP_*` environment variables or keyword arguments; `TMCP_DATABASE_URL` alone is enough."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tmcp_serverless.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Settings"]

_PREFIX = "TMCP_"


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


_Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class Settings(BaseModel):
    """Everything that can be configured. Each field is read from `TMCP_<FIELD>` where it is not given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: str | None = None
    """The Postgres connection string, with any `sslmode`. Without it, sessions stay in memory."""

    listen_url: str | None = None
    """A direct connection to the same database, where `database_url` goes through a pooler."""

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

    disable_sse: bool = False
    """Whether the standalone GET stream is refused with 405."""

    answer_session_methods: bool = True
    """Whether `logging/setLevel` and `resources/subscribe` are answered for `MCPServer` and `FastMCP`."""

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

    @classmethod
    def load(cls, *, environment: Mapping[str, str] | None = None, **given: Any) -> Self:
        """Return the settings from the environment, with what is given on top.

        Raises:
            ConfigurationError: A value is not of its setting's kind, or there is no such setting.

        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {
            name: environment[_PREFIX + name.upper()]
            for name in cls.model_fields
            if environment.get(_PREFIX + name.upper())
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
            raise ConfigurationError(f"{source}: {wrong['msg']} (got {wrong['input']!r})") from None
