"""What a connection string says: a URL, or `keyword=value` pairs, as a mapping of libpq's keywords.

asyncpg reads URLs alone, shows parts of them in its errors, and takes keywords of libpq that it does not know
for settings of the server, which then refuses the connection. So they are read here.
(postgresql.org/docs/current/libpq-connect.html, "Connection Strings")
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from tmcp_serverless.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["arguments", "hosts_and_ports", "parse"]

logger = logging.getLogger(__name__)

_SCHEMES = ("postgresql://", "postgres://")
_PAIR = re.compile(r"\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)\s*")
_ESCAPED = re.compile(r"\\(.)")
_HOST = re.compile(r"(?:\[([^\]]*)\]|([^:]*))(?::(\d*))?")
_PORT = "5432"

_OF_THE_CLIENT = frozenset(
    {
        *("channel_binding", "client_encoding", "connect_timeout", "fallback_application_name", "gssencmode"),
        *("hostaddr", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval"),
        *("load_balance_hosts", "pgbouncer", "sslcertmode", "sslcompression", "sslsni", "tcp_user_timeout"),
    }
)
"""What other clients do something with: this one does not, and the server knows none of it."""


def parse(text: str, *, setting: str) -> dict[str, str]:
    """Return the keywords of a connection string and their values. Several hosts are separated by commas.

    Raises:
        ConfigurationError: It is none. The message names the setting, and shows nothing of the text, for
            parts of a password may end up in any place of it.

    """
    for scheme in _SCHEMES:
        if text.startswith(scheme):
            return _checked(_of_url(text.removeprefix(scheme), setting), setting)
    found = _of_pairs(text)
    if not found:
        raise ConfigurationError(
            f"{setting} is not a Postgres connection string: expected "
            "postgresql://user:password@host/dbname, or pairs such as `host=... user=... dbname=...`"
        )
    return _checked(found, setting)


def arguments(parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of `asyncpg.connect` for these keywords."""
    rest = {key: value for key, value in parameters.items() if key not in _OF_THE_CLIENT}
    if parameters.get("channel_binding") == "require":
        logger.info(
            "channel_binding=require is passed over: the driver has none, sslmode=verify-full has more"
        )
    found: dict[str, Any] = {
        "user": rest.pop("user", None),
        "password": rest.pop("password", None),
        "database": rest.pop("dbname", None),
    }
    if "host" in rest:
        pairs = hosts_and_ports(rest)
        found["host"] = [host for host, _ in pairs]
    if "port" in rest:
        found["port"] = [int(port) for _, port in hosts_and_ports(rest)]
    rest = {key: value for key, value in rest.items() if key not in ("host", "port")}
    if rest:
        found["dsn"] = "postgresql:///?" + urlencode(rest, quote_via=quote)
    return found


def hosts_and_ports(parameters: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return every host with its port, which is 5432 where nothing is said."""
    hosts = parameters.get("host", "localhost").split(",")
    ports = parameters.get("port", "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    return [(host, port or _PORT) for host, port in zip(hosts, ports, strict=True)]


def _of_url(text: str, setting: str) -> dict[str, str]:
    front, _, query = text.partition("?")
    authority, _, path = front.partition("/")
    login, at, places = authority.rpartition("@")
    user, _, password = login.partition(":") if at else ("", "", "")
    host, port = _hosts(places, setting)
    if "@" in path:
        raise _torn(setting)
    said = {"host": host, "port": port, "user": unquote(user), "password": unquote(password)}
    said["dbname"] = unquote(path)
    said |= parse_qsl(query)
    if (name := said.pop("database", "")) and not said["dbname"]:
        said["dbname"] = name
    if said.pop("ssl", None) == "true":
        said["sslmode"] = "require"
    return {key: value for key, value in said.items() if value}


def _hosts(places: str, setting: str) -> tuple[str, str]:
    matches = [_HOST.fullmatch(place) for place in places.split(",")] if places else []
    if not all(matches):
        raise _torn(setting)
    found = [(unquote(match[1] or match[2] or ""), match[3] or "") for match in matches if match]
    ports = [port for _, port in found]
    return ",".join(host for host, _ in found), ",".join(ports) if any(ports) else ""


def _torn(setting: str) -> ConfigurationError:
    return ConfigurationError(
        f"{setting}: its parts cannot be told apart; in a user's name or a password, "
        "the characters : / ? # [ ] @ % have to be percent-encoded"
    )


def _of_pairs(text: str) -> dict[str, str]:
    """Return what pairs say; nothing where the text is something else."""
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _PAIR.match(text, position)
        if match is None or match.end() == position:
            return {}
        value = match[2][1:-1] if match[2].startswith("'") else match[2]
        found[match[1]] = _ESCAPED.sub(r"\1", value)
        position = match.end()
    return {key: value for key, value in found.items() if value}


def _checked(parameters: dict[str, str], setting: str) -> dict[str, str]:
    ports = parameters.get("port", "").split(",")
    if not all(port.isdecimal() or not port for port in ports):
        raise ConfigurationError(f"{setting}: a port has to be a number")
    if len(ports) not in (1, len(parameters.get("host", "").split(","))):
        raise ConfigurationError(f"{setting}: there are {len(ports)} ports, for another number of hosts")
    return parameters
