"""Checks of settings' values, and the errors about them.

A value of the right type may still be one that cannot work.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from typing import TYPE_CHECKING, Any

from tmcp_serverless.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from tmcp_serverless.config import Settings

__all__ = [
    "DEFAULT_NAMESPACE",
    "check_hosts",
    "check_keys",
    "check_namespace",
    "check_origins",
    "check_path",
    "check_schema",
    "clash_of_paths",
    "explained",
    "hidden",
    "hint",
    "split",
]

DEFAULT_NAMESPACE = "default"
"""The namespace of a server that was given no name, and of managers that were given no namespace."""

_LONGEST_NAMESPACE = 128
_UNSEEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories: controls, halves of surrogate pairs, separators of lines and paragraphs."""

_HOST = r"(?:\[[0-9a-f:.]+\]|[^\s\[\]:/?#@,*]+)(?::(?:\d+|\*))?"
_ALLOWED_HOST = re.compile(_HOST, re.IGNORECASE)
_ALLOWED_ORIGIN = re.compile(rf"\*|null|[a-z][a-z0-9+.-]*://{_HOST}", re.IGNORECASE)

_LEGACY = ("sse_", "message_")
_ADVICE = "change path, sse_path or message_path, or set disable_legacy_sse"
_SHORTEST_KEY_BYTES = 32
_STARS = "**********"


def split(value: Any) -> Any:
    """Return the parts of a text with commas; any other value as it is."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def hidden(value: Any) -> Any:
    """Return stars in the place of a secret text, or of each of several; `None` as it is."""
    if isinstance(value, tuple):
        return tuple(map(hidden, value))
    return value and _STARS


def check_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values of `Host`, with or without a port (`name:*` is any port), if each is valid."""
    for host in hosts:
        if not _ALLOWED_HOST.fullmatch(host):
            raise ValueError(f"{host!r} is no value of Host, such as `mcp.example.com` or `localhost:*`")
    return hosts


def check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values of `Origin`, which have a scheme and no path (`*` is any), if each is valid."""
    for origin in origins:
        if not _ALLOWED_ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin!r} is no origin, such as `https://app.example.com`, or `*` for any")
    return origins


def check_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys, if they are long enough and no two are the same."""
    if any(len(key.encode()) < _SHORTEST_KEY_BYTES for key in keys):
        raise ValueError("a key has 32 bytes: python -c 'import secrets; print(secrets.token_hex(32))'")
    if len(set(keys)) < len(keys):
        raise ValueError("a key is there twice")
    return keys


def check_schema(schema: str) -> str:
    """Return a schema's name, if it is an identifier, in double quotes if it has a dot."""
    quoted = len(schema) > 2 and schema[0] == schema[-1] == '"'  # noqa: PLR2004 - the quotes
    if not schema or "\0" in schema or ("." in schema and not quoted):
        raise ValueError(f'{schema!r} is no schema, such as `tenant` or `"my.tenant"`')
    return schema


def check_namespace(name: str) -> str:
    """Return the namespace, if it has 1 to 128 characters, not all of them spaces, and no controls.

    Raises:
        ValueError: The name is no such text.

    """
    if not name.strip() or len(name) > _LONGEST_NAMESPACE:
        raise ValueError(
            f"a namespace has 1 to {_LONGEST_NAMESPACE} characters, not {len(name)}: {name[:40]!r}"
        )
    if any(unicodedata.category(character) in _UNSEEN for character in name):
        raise ValueError(f"a namespace has no control characters: {name!r}")
    return name


def check_path(path: str) -> str:
    """Return the path, if it begins with a slash or is empty."""
    if path and not path.startswith("/"):
        raise ValueError(f"{path!r} does not begin with a slash")
    return path


def clash_of_paths(settings: Settings) -> str | None:
    """Return a message about a path that another setting has already; `None` if all are different."""
    names = ["path"] if settings.disable_legacy_sse else ["path", "sse_path", "message_path"]
    # If these two are empty, they are not served.
    names += [name for name in ("health_path", "ready_path") if getattr(settings, name)]
    taken: dict[str, str] = {}
    for name in names:
        path: str = getattr(settings, name)
        other = taken.setdefault(path.rstrip("/"), name)
        if other != name:
            advice = _ADVICE if name.startswith(_LEGACY) else "change one"
            return f"{name}: {path!r} is where `{other}` leads already; {advice}"
    return None


def explained(wrong: ErrorDetails, fields: Mapping[str, FieldInfo]) -> ConfigurationError:
    """Return the error of a setting; its message begins with the setting's name and a colon."""
    name = str(wrong["loc"][0])
    if wrong["type"] == "extra_forbidden":
        return ConfigurationError(f"there is no setting {name!r}{hint(name, fields)}")
    if (ours := wrong.get("ctx", {}).get("error")) is not None:
        # It says in whole what is wrong; pydantic would write "Value error, " in front of it.
        return ConfigurationError(f"{name}: {ours}")
    got = "" if fields[name].repr is False else f" (got {wrong['input']!r})"
    return ConfigurationError(f"{name}: {wrong['msg']}{got}")


def hint(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Return the end of a sentence about an unknown setting: the known one that is like it, if any is."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; is {prefix}{near[0]} meant?" if near else ""
