"""Reading and writing JSON-RPC messages."""

from __future__ import annotations

import asyncio
import gc
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import pydantic_core

from tmcp_serverless.http.asgi import INVALID_PARAMS, PARSE_ERROR, HttpProblem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tmcp_serverless.http.platform import HttpOptions
    from tmcp_serverless.sessions import Json

__all__ = [
    "LONGEST_URI",
    "LONG_URI_TEXT",
    "Kind",
    "check_values",
    "classify",
    "dump",
    "error_answer",
    "has_long_uri",
    "notification",
    "parse",
]

_LARGE_BYTES = 64 * 1024
"""Length of a body that is parsed without garbage collections: hundreds of them would find nothing."""

LONGEST_URI = 8 * 1024
"""Most characters of a resource's URI in a request."""

LONG_URI_TEXT = f"Invalid params: the URI is longer than {LONGEST_URI} characters"
"""Error message of a request with a longer one."""

_CODE = pydantic_core.SchemaValidator(pydantic_core.core_schema.int_schema())
"""Error code. The SDK reads it from -1.0 and from "-1" too."""


class Kind(Enum):
    """Kind of a JSON-RPC message."""

    REQUEST = auto()
    NOTIFICATION = auto()
    RESPONSE = auto()


async def parse(body: bytes, options: HttpOptions) -> Any:
    """Read a body as JSON.

    Raises:
        HttpProblem: 400, with the SDK's words when the body is not JSON, and when it is a batch that is too
            long; 413 when it has too many values.

    """
    if len(body) > options.max_body_values:
        await check_values(body, options.max_body_values)
    try:
        message = _parsed(body)
    except ValueError as error:
        raise HttpProblem(400, f"Parse error: {error}", code=PARSE_ERROR) from None
    if len(body) > _LARGE_BYTES:
        await asyncio.sleep(0)
    if type(message) is list and len(message) > options.max_batch:
        wrong = f"a batch of {len(message)} messages; at most {options.max_batch} are accepted"
        raise HttpProblem(400, f"Validation error: {wrong}", code=INVALID_PARAMS)
    return message


async def check_values(body: bytes, most: int) -> None:
    """Refuse a body with too many values. The time of a long text is cheap, and that of small values is not.

    Each value but the first comes after a bracket, a comma or a colon, and the body is not parsed to count
    them. The event loop runs in between if that takes a while.

    Raises:
        HttpProblem: 413 when the body has more values and names of members than this.

    """
    if len(body) <= most or _separators(body, most) <= most:
        return
    # Texts have commas too. Without escaped quotes, every second part is outside of them. UTF-16, which has
    # NULs, is not looked into.
    for escaped in (b"\\\\", b'\\"'):
        await asyncio.sleep(0)
        body = body.replace(escaped, b"")
    await asyncio.sleep(0)
    # A value that is a text has two quotes.
    parts = body.split(b'"', 2 * most + 2)
    await asyncio.sleep(0)
    if b"\0" in body or len(parts) > 2 * most + 2 or _separators(b"".join(parts[::2]), most) > most:
        text = f"at most {most} JSON values are accepted; send them in parts, or raise TMCP_MAX_BODY_VALUES"
        raise HttpProblem(413, f"Request body too large: {text}")


def _separators(body: bytes, most: int) -> int:
    """Return the number of the body's separators, or one that is larger than `most`."""
    found = 0
    for separator in (b",", b":", b"[", b"{"):
        # `count` looks at one byte after the other, and takes thirty times as long for a text.
        found += len(body) - len(body.replace(separator, b"", most + 1))
        if found > most:
            break
    return found


def has_long_uri(params: Any) -> bool:
    """Return `True` if a request's parameters name a resource by more than `LONGEST_URI` characters.

    Servers match it with patterns, decode it, and repeat it in their answers.
    """
    if type(params) is not dict:
        return False
    reference = params.get("ref")
    uris = (params.get("uri"), reference.get("uri") if type(reference) is dict else None)
    return any(type(uri) is str and len(uri) > LONGEST_URI for uri in uris)


def _parsed(body: bytes) -> Any:
    if len(body) <= _LARGE_BYTES or not gc.isenabled():
        return pydantic_core.from_json(body)
    gc.disable()
    try:
        return pydantic_core.from_json(body)
    finally:
        gc.enable()


def dump(message: Any) -> bytes:
    """Write a message as compact JSON. A number that JSON lacks, such as NaN, is null, as in the SDK."""
    return pydantic_core.to_json(message, inf_nan_mode="null")


def error_answer(request: dict[str, Any], code: int, text: str) -> dict[str, Any]:
    """Return the JSON-RPC error that answers a failed request."""
    return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": text}}


def notification(method: str, params: Mapping[str, Any] | None) -> Json:
    """Return a notification."""
    message: Json = {"jsonrpc": "2.0", "method": method}
    if params is not None:
        message["params"] = dict(params)
    return message


def classify(message: Any) -> tuple[Kind, Json]:
    """Return the message's kind, and the message. A response is reduced to the members that the SDK reads.

    Raises:
        HttpProblem: 400 when it is not a JSON-RPC message, with the reason.

    """
    if type(message) is dict and message.get("jsonrpc") == "2.0":
        if type(message.get("method")) is str and type(message.get("params")) in (dict, type(None)):
            if "id" not in message:
                return Kind.NOTIFICATION, message
            if type(message["id"]) in (str, int):
                return Kind.REQUEST, message
        elif (response := _response(message)) is not None:
            return Kind.RESPONSE, response
    raise HttpProblem(400, f"Validation error: {_what_is_wrong(message)}", code=INVALID_PARAMS)


def _response(message: Json) -> Json | None:
    """Return the members that make the message a response, without a null error; `None` if it is none."""
    # The id of an error may be null, but has to be there.
    if "id" not in message or type(message["id"]) not in (str, int, type(None)):
        return None
    response: Json = {"jsonrpc": "2.0", "id": message["id"]}
    error = message.get("error")
    if type(error) is dict and type(error.get("message")) is str and (code := _code(error)) is not None:
        return {**response, "error": {**error, "code": code}}
    if response["id"] is not None and type(message.get("result")) is dict:
        return {**response, "result": message["result"]}
    return None


def _code(error: Json) -> int | None:
    try:
        return _CODE.validate_python(error.get("code"))
    except pydantic_core.ValidationError:
        return None


def _what_is_wrong(message: Any) -> str:
    if type(message) is not dict:
        return f"a JSON-RPC message is an object, not {_name(message)}"
    if message.get("jsonrpc") != "2.0":
        return 'the member "jsonrpc" must be "2.0"'
    if "method" in message:
        if type(message["method"]) is not str:
            return f'the member "method" must be a string, not {_name(message["method"])}'
        if type(message.get("params")) not in (dict, type(None)):
            return f'the member "params" must be an object, not {_name(message["params"])}'
        return f'the member "id" must be a string or an integer, not {_name(message["id"])}'
    return 'neither a request (with "method") nor a response (with "id" and "result" or "error")'


def _name(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
