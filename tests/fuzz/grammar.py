"""Grammar of the parts: text, header values, JSON, and mutations of each, drawn from one seeded source.

Every choice takes one draw, whatever it chooses from. So two runs with one seed make the same choices, though
the ids that a server hands out are others.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

__all__ = [
    "Draw",
    "dumped",
    "header_value",
    "json_value",
    "mutated_bytes",
    "mutated_json",
    "mutated_text",
    "text",
]

T = TypeVar("T")

_TEXTS = (
    "",
    "a",
    "7",
    "-1",
    "0",
    "1e400",
    "null",
    "true",
    "NaN",
    "\0",
    "a\0b",
    " ",
    "a b",
    "a\tb",
    "a\nb",
    "a\r\nx-injected: 1",
    "\u2028",
    "\u0085",
    "\ud800",
    "\U0001f600",
    "\u202egnp",
    "\ufeff",
    "ä" * 40,
    "x" * 129,
    "x" * 2_001,
    "x" * 9_000,
    "'; SELECT pg_sleep(9); --",
    '"; NOTIFY tmcp; --',
    "$1",
    "%s%n{0}",
    "{text!r}",
    "${jndi:ldap://127.0.0.1/a}",
    "../../etc/passwd",
    "/broadcast",
    "/events",
    "/trial/x",
    "*",
    "=?base64?YQ==?=",
    "=?base64?%%%?=",
    "__proto__",
    "9" * 25,
    "9" * 4_400,
)

_HEADER_VALUES = (
    b"",
    b",",
    b";",
    b"*/*",
    b"application/json",
    b"text/event-stream",
    b"application/json, text/event-stream",
    b"application/json;q=0, text/event-stream",
    b"text/*;q=0.0, application/*",
    b"application/json; charset=utf-16",
    b"q=,;,=;q",
    b"multipart/form-data; boundary=x",
    b"2025-03-26",
    b"2025-06-18",
    b"2025-11-25",
    b"2024-11-05",
    b"2026-07-28",
    b"1999-01-01",
    b"http://localhost:8000",
    b"http://127.0.0.1",
    b"https://evil.example",
    b"null",
    b"http://[::1",
    b"http://[::1]:99999",
    b"http://user@host/path?x#y",
    b"evil.example:80",
    b"127.0.0.1:x",
    b"0.0",
    b"1.0",
    b"-1.-1",
    b"99999999999999999999.0",
    b"1.1@00000000",
    b"@+00000000",
    b"1.0@+zz",
    b"rMQ.000000000000:1.0",
    b"rMQ.000000000000:1.0~",
    b"r.000000000000:1",
    b"rMQ.000000000000:99999999999999999999.99999999999999999999",
    b"hx.ffffffffffff:a@00000000~",
    b"sse-" + b"a" * 43,
    b"a" * 43,
    b"a" * 128,
    b"a" * 129,
    b"\xff\xfe",
    b"\xc3\xa4",
    b"a\tb",
    b"=?base64?ZWNobw==?=",
    b"tools/call",
    b"echo",
    b"x" * 7_000,
    b"%00",
    b"' OR 1=1 --",
    b"identity, gzip;q=0",
    b"bytes=0-1",
)


class Draw:
    """Choices from a seeded source."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def chance(self, probability: float) -> bool:
        """Return `True` with this probability."""
        return self._random.random() < probability

    def below(self, limit: int) -> int:
        """Return a number from 0 to below the limit; 0 where there is none below it."""
        return int(self._random.random() * limit)

    def between(self, least: float, most: float) -> float:
        """Return a number in this range."""
        return least + self._random.random() * (most - least)

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of the choices."""
        return choices[self.below(len(choices))]


def text(draw: Draw) -> str:
    """Return a text that has made trouble somewhere."""
    return draw.pick(_TEXTS)


def header_value(draw: Draw) -> bytes:
    """Return a value for any header. As a rule it is none that the header has."""
    return draw.pick(_HEADER_VALUES)


def json_value(draw: Draw, *, depth: int = 3) -> Any:
    """Return any JSON value. NaN and infinities are among them."""
    kind = draw.below(10 if depth else 6)
    match kind:
        case 0:
            return draw.pick((None, True, False))
        case 1:
            return draw.pick((0, 1, -1, 7, 2**31, 2**53, 2**63, -(2**63) - 1, 10**40))
        case 2:
            return draw.pick((0.0, -0.0, 0.5, 1e308, float("nan"), float("inf"), 1.0, 5e-324))
        case 3 | 4 | 5:
            return text(draw)
        case 6 | 7:
            return [json_value(draw, depth=depth - 1) for _ in range(draw.below(4))]
        case _:
            return {text(draw): json_value(draw, depth=depth - 1) for _ in range(draw.below(4))}


def dumped(draw: Draw, value: Any) -> bytes:
    """Return the JSON of a value, in one of its ways to be written."""
    way = draw.below(8)
    if way == 0:
        return json.dumps(value, indent=1).encode()
    if way == 1:
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return json.dumps(value, separators=(",", ":")).encode()


def mutated_text(draw: Draw, value: str) -> str:  # noqa: PLR0911 - one for each way
    """Return the text with one thing changed: a character, its length, its case, its neighbourhood."""
    place, way = draw.below(len(value)), draw.below(9)
    match way:
        case 0:
            return value[:place]
        case 1:
            return value[:place] + draw.pick("aZ0-_.~@:=%") + value[place + 1 :]
        case 2:
            return value[:place] + value[place + 1 :]
        case 3:
            return value + draw.pick("aZ0-_.~@:=% ")
        case 4:
            return value.swapcase()
        case 5:
            return value + value
        case 6:
            return value[::-1]
        case 7:
            return f"{value}\0"
        case _:
            return f" {value} "


def mutated_json(draw: Draw, value: Any) -> Any:
    """Return the value with one place changed: replaced, removed, doubled, wrapped, renamed."""
    if draw.chance(0.25):
        return _replaced(draw, value)
    place = draw.below(1_000)
    if isinstance(value, dict) and value:
        members: dict[str, Any] = dict(value)
        name = list(members)[place % len(members)]
        match draw.below(6):
            case 0:
                del members[name]
            case 1:
                members[mutated_text(draw, name)] = members.pop(name)
            case 2:
                members[text(draw)] = json_value(draw, depth=1)
            case _:
                members[name] = mutated_json(draw, members[name])
        return members
    if isinstance(value, list) and value:
        items: list[Any] = list(value)
        items[place % len(items)] = mutated_json(draw, items[place % len(items)])
        return items
    return _replaced(draw, value)


def _replaced(draw: Draw, value: Any) -> Any:
    match draw.below(5):
        case 0:
            return [value]
        case 1:
            return {"value": value}
        case 2:
            return mutated_text(draw, value) if isinstance(value, str) else str(value)
        case _:
            return json_value(draw)


def mutated_bytes(draw: Draw, data: bytes) -> bytes:  # noqa: PLR0911 - one for each way
    """Return the bytes with one place changed, or others in their place."""
    place = draw.below(len(data))
    match draw.below(10):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + bytes([draw.below(256)]) + data[place + 1 :]
        case 2:
            return data[:place] + b"\xff\xfe\x00" + data[place:]
        case 3:
            return b"\xef\xbb\xbf" + data
        case 4:
            return data.decode("utf-8", "replace").encode("utf-16")
        case 5:
            return draw.pick((b"[", b'{"a":', b"-", b'"\\')) * draw.pick((1, 200, 5_000))
        case 6:
            return data + data
        case 7:
            return data[:place] + b"9" * draw.pick((30, 5_000)) + data[place:]
        case 8:
            return data + b" " * draw.pick((1, 100_000, 4_300_000))
        case _:
            return b""
