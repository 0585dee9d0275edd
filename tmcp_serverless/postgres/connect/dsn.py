"""Connection strings: a URL, or `keyword=value` pairs, as a mapping of libpq's keywords.

asyncpg reads only URLs, and shows parts of them in its errors. It takes libpq keywords that it does not know
for settings of the server. So connection strings are read here; `keywords` has the rule for each keyword.
(postgresql.org/docs/current/libpq-connect.html, "Connection Strings")
"""

from __future__ import annotations

import getpass
import logging
import os
import random
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.postgres.connect.keywords import KEYWORDS, canonical, ruled
from tmcp_serverless.postgres.connect.pasted import (
    cleaned,
    refuse_semicolons,
    refuse_templates,
    without_scheme,
)
from tmcp_serverless.postgres.connect.services import of_service
from tmcp_serverless.postgres.connect.tls import with_tls_settled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["arguments", "checked", "connect_seconds", "hosts_and_ports", "parse"]

logger = logging.getLogger(__name__)

_PAIR = re.compile(r"\s*(\w+(?:\.\w+)*)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)\s*")
_ESCAPED = re.compile(r"\\(.)")
_HOST = re.compile(r"(?:\[([^\]\s]*)\]|([^:\s]*))(?::(\d*))?")
_NAME = re.compile(r"\w+(?:\.\w+)*")
_OPTION = re.compile(r"options\[(\w+(?:\.\w+)*)\]")
"""sqlx's form for a setting of the session."""

_PORT = "5432"
_NEVER_SECONDS = 60.0
"""The stand-in for libpq's `connect_timeout=0`, an endless wait."""

_TORN = (
    "its parts cannot be told apart; in a user's name or a password, "
    "the characters : / ? # [ ] @ % have to be percent-encoded"
)
_OF_THE_DRIVER = frozenset(
    {
        *("passfile", "target_session_attrs", "krbsrvname", "gsslib", "sslmode", "sslrootcert", "sslcert"),
        *("sslkey", "sslpassword", "sslcrl", "sslnegotiation", "ssl_min_protocol_version"),
        "ssl_max_protocol_version",
    }
)
"""The keywords that asyncpg obeys by itself."""


def parse(text: str, *, setting: str) -> dict[str, str]:
    """Return the keywords of a connection string and their values. Several hosts are separated by commas.

    Raises:
        ConfigurationError: The text is not a connection string, or a keyword of it is refused. The message
            names the setting, and shows no value: parts of a password may end up in any place of the text.

    """
    try:
        text = cleaned(text)
        refuse_templates(text)
        refuse_semicolons(text)
        rest = without_scheme(text)
        items = _of_pairs(text) if rest is None else _of_url(rest)
    except ValueError as error:
        raise ConfigurationError(f"{setting}: {error}") from None
    return checked(items, setting=setting)


def checked(items: Iterable[tuple[str, str]], *, setting: str) -> dict[str, str]:
    """Return the keywords and values that are left when each keyword's rule is applied. Drop empty values.

    Raises:
        ConfigurationError: A keyword is refused. The message names it, and shows no value.

    """
    try:
        found = _ruled(items, setting)
        if service := found.pop("service", None):
            others = of_service(service, found.pop("servicefile", None))
            found = {**_ruled(others.items(), setting), **found}
        found.pop("servicefile", None)
        _check_places(found)
        connect_seconds(found)
        return with_tls_settled(found)
    except ValueError as error:
        raise ConfigurationError(f"{setting}: {error}") from None


def arguments(parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of `asyncpg.connect` for these keywords, without those for TLS contexts.

    Raises:
        ConfigurationError: No user is named, and this account has no name.

    """
    found: dict[str, Any] = {
        "user": parameters.get("user") or _user_of_this_process(),
        "password": parameters.get("password"),
        "database": parameters.get("dbname"),
    }
    if parameters.get("require_auth") == "none":
        found["password"] = ""  # So there is none that could be asked for.
    pairs = hosts_and_ports(parameters)
    if parameters.get("load_balance_hosts") == "random":
        random.shuffle(pairs)
    if "host" in parameters:
        found["host"] = [host for host, _ in pairs]
    if "port" in parameters:
        found["port"] = [int(port) for _, port in pairs]
    if driver := {key: value for key, value in parameters.items() if key in _OF_THE_DRIVER}:
        found["dsn"] = "postgresql:///?" + urlencode(driver, quote_via=quote)
    told = ("application_name", "options")
    settings = {key: value for key, value in parameters.items() if key in told or key not in KEYWORDS}
    if "fallback_application_name" in parameters:
        settings.setdefault("application_name", parameters["fallback_application_name"])
    if settings:
        found["server_settings"] = settings
    return found


def connect_seconds(parameters: Mapping[str, str]) -> float | None:
    """Return the time that connecting may take, for all hosts together; `None` if nothing sets it.

    Raises:
        ValueError: It is no number.

    """
    said = parameters.get("connect_timeout") or os.environ.get("PGCONNECT_TIMEOUT")
    if not said:
        return None
    try:
        seconds = int(said)
    except ValueError:
        raise ValueError("connect_timeout has to be a whole number of seconds") from None
    # As libpq: for each host; 1 is too short and counts as 2.
    each = max(2.0, float(seconds)) if seconds > 0 else _NEVER_SECONDS
    return each * len(hosts_and_ports(parameters))


def hosts_and_ports(parameters: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return every host with its port, by default 5432."""
    hosts = parameters.get("host", "localhost").split(",")
    ports = parameters.get("port", "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    return [(host, port or _PORT) for host, port in zip(hosts, ports, strict=True)]


def _user_of_this_process() -> str | None:
    if os.environ.get("PGUSER"):
        return None  # The driver takes it.
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        raise ConfigurationError("no user is named, and the account of this process has no name") from None
    return None


def _of_url(text: str) -> list[tuple[str, str]]:
    front, _, query = text.partition("?")
    authority, _, path = front.partition("/")
    login, at, places = authority.rpartition("@")
    user, _, password = login.partition(":") if at else ("", "", "")
    if "@" in path:
        raise ValueError(_TORN)
    host, port = _hosts(places)
    said = [("host", host), ("port", port), ("user", unquote(user)), ("password", unquote(password))]
    said.append(("dbname", unquote(path)))
    asked = _of_query(query)
    if "@" in query and not at and not any(name == "user" for name, _ in asked):
        raise ValueError(_TORN)
    # A path names the database more plainly than the keyword `database` of other clients.
    return [*said, *((name, value) for name, value in asked if name != "database" or not path)]


def _of_query(query: str) -> list[tuple[str, str]]:
    query = query.replace("&amp;", "&")  # copied from a page's source
    for piece in query.split("&"):
        name, equals, _ = piece.partition("=")
        if piece and (not equals or not _is_name(unquote(name))):
            raise ValueError(_TORN)
    # Unlike in forms, a plus sign stands for itself.
    asked = parse_qsl(query.replace("+", "%2B"))
    return [(found[1] if (found := _OPTION.fullmatch(name)) else name, value) for name, value in asked]


def _is_name(name: str) -> bool:
    """Return true if it can be a keyword. A hyphenated one has to be known: passwords have hyphens too."""
    return bool(_NAME.fullmatch(name) or _OPTION.fullmatch(name)) or canonical(name) in KEYWORDS


def _hosts(places: str) -> tuple[str, str]:
    matches = [_HOST.fullmatch(place) for place in places.split(",")] if places else []
    if not all(matches):
        raise ValueError(_TORN)
    found = [(unquote(match[1] or match[2] or ""), match[3] or "") for match in matches if match]
    ports = [port for _, port in found]
    return ",".join(host for host, _ in found), ",".join(ports) if any(ports) else ""


def _of_pairs(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        match = _PAIR.match(text, position)
        if match is None or match.end() == position:
            found.clear()
            break
        value = match[2][1:-1] if match[2].startswith("'") else match[2]
        found.append((match[1], _ESCAPED.sub(r"\1", value)))
        position = match.end()
    if not found:
        raise ValueError(
            "it is not a Postgres connection string: expected postgresql://user:password@host/dbname, "
            "or pairs such as `host=... user=... dbname=...`"
        )
    return found


def _ruled(items: Iterable[tuple[str, str]], setting: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for given, value in items:
        name = canonical(given)
        value = value.strip() if name != "password" else value  # noqa: PLW2901 - the same, cleaned
        if not value:
            continue
        if (rule := ruled(name, value)).treatment == "passed over":
            logger.debug("%s: %s is passed over: %s", setting, name, rule.reason)
        else:
            found[name] = value
    return found


def _check_places(found: dict[str, str]) -> None:
    if "hostaddr" in found:
        if "host" in found:
            raise ValueError(f"hostaddr is not supported here: {KEYWORDS['hostaddr'].reason}")
        found["host"] = found.pop("hostaddr")
    if "\0" in "".join(found.values()):
        raise ValueError("there is a null character in it")
    if any(character.isspace() for character in found.get("host", "")) and "/" not in found.get("host", ""):
        raise ValueError("there is a space in the host's name")
    ports = found.get("port", "").split(",")
    if not all(not port or (port.isdecimal() and 0 < int(port) < 1 << 16) for port in ports):
        raise ValueError("a port has to be a number, up to 65535")
    if len(ports) not in (1, len(found.get("host", "").split(","))):
        raise ValueError(f"there are {len(ports)} ports, for another number of hosts")
