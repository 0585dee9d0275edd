"""Events and answers as JSON, in the form that AWS's own runtime for Python reads and writes.

That runtime writes with simplejson: a `Decimal` is a number, a named tuple an object, `bytes` are text. An
answer of type `bytes` is passed on unchanged. (awslambdaric, `lambda_runtime_marshaller`)
"""

from __future__ import annotations

import json
import math
import os
import re
from decimal import Decimal
from typing import Any, cast
from uuid import uuid4

from tmcp_serverless.hosts.lambda_streaming.faults import Fault, FaultError, words_of

__all__ = ["marshal", "unmarshal"]

_NUMBER = uuid4().hex
"""Prefix of the text that stands for a `Decimal` until the JSON is written; no text of a user's contains
it."""

_UNESCAPED = {f"AWS_Lambda_python3.{minor}" for minor in (12, 13, 14, 15)}
"""Runtimes that write non-ASCII characters unescaped."""


def unmarshal(event: bytes) -> Any:
    """Return the event of this JSON.

    Raises:
        FaultError: It is no JSON.
    """
    try:
        return json.loads(event)
    except (ValueError, RecursionError) as error:
        raise _fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from error


def marshal(answer: Any) -> tuple[bytes, str]:
    """Return an answer's bytes and their content type.

    Raises:
        FaultError: The answer has a value that JSON does not have.
    """
    if isinstance(answer, bytes):
        return answer, "application/unknown"
    try:
        return _encoded(_plain(answer)), "application/json"
    except Exception as error:
        raise _fault("Runtime.MarshalError", f"Unable to marshal response: {words_of(error)}") from error


def _encoded(plain: Any) -> bytes:
    escaped = os.environ.get("AWS_EXECUTION_ENV") not in _UNESCAPED
    try:
        return _text(plain, escaped=escaped).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return _text(plain, escaped=True).encode()


def _text(plain: Any, *, escaped: bool) -> str:
    text = json.dumps(plain, ensure_ascii=escaped)
    return re.sub(f'"{_NUMBER}([^"]*)"', r"\1", text) if _NUMBER in text else text


def _plain(value: Any) -> Any:
    """Return the value in types that `json` writes in the wanted form."""
    if isinstance(value, dict):
        fields = cast("dict[Any, Any]", value)
        return {_key(name): _plain(each) for name, each in fields.items()}
    if isinstance(value, tuple) and callable(as_dict := getattr(value, "_asdict", None)):
        return _plain(as_dict())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in cast("list[Any]", value)]
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Decimal):
        return math.nan if value.is_nan() else f"{_NUMBER}{value}"
    return value


def _key(name: Any) -> Any:
    return name.decode() if isinstance(name, bytes) else name


def _fault(type: str, message: str) -> FaultError:
    return FaultError(Fault(type, message))
