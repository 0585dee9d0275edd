"""What is refused: by HTTP, by JSON-RPC, by MCP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .intended import as_json_rpc, done, everywhere, instead, refused, with_options, worded
from .interactions import HANDSHAKE, Difference, interaction

if TYPE_CHECKING:
    from .client import Client
    from .interactions import Steps

PING: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
LIMIT_BYTES = 4 * 1024 * 1024

WRONG_VERSION = 'the member "jsonrpc" must be "2.0"'
NEITHER = 'neither a request (with "method") nor a response (with "id" and "result" or "error")'
NO_JSON_RPC: list[tuple[str, Any, str]] = [
    ("null", None, "a JSON-RPC message is an object, not null"),
    ("a number", 1, "a JSON-RPC message is an object, not a number"),
    ("a string", "ping", "a JSON-RPC message is an object, not a string"),
    ("a boolean", True, "a JSON-RPC message is an object, not a boolean"),
    ("an empty object", {}, WRONG_VERSION),
    ("no version", {"id": 1, "method": "ping"}, WRONG_VERSION),
    ("only a version", {"jsonrpc": "2.0"}, NEITHER),
    ("only an id", {"jsonrpc": "2.0", "id": 1}, NEITHER),
]
"""Bodies that are JSON: their name, the body, and what we say of it."""

OTHER_VERSIONS = ("1.0", 2.0, 2, "2", None, "")
WRONG_MEMBERS: list[tuple[str, dict[str, Any], str]] = [
    ("method is a number", {"method": 1}, 'the member "method" must be a string, not a number'),
    ("method is null", {"method": None}, 'the member "method" must be a string, not null'),
    (
        "params is a list",
        {"method": "ping", "params": [1]},
        'the member "params" must be an object, not an array',
    ),
    (
        "params is text",
        {"method": "ping", "params": "x"},
        'the member "params" must be an object, not a string',
    ),
    ("result is a list", {"result": []}, NEITHER),
    ("error without code", {"error": {"message": "x"}}, NEITHER),
    ("error with half a code", {"error": {"code": 1.5, "message": "x"}}, NEITHER),
    ("error is null", {"error": None}, NEITHER),
]
_NO_ID = 'Validation error: the member "id" must be a string or an integer, not'
INVALID_IDS: list[tuple[Any, str]] = [
    (1.5, f"{_NO_ID} a number"),
    (1.0, f"{_NO_ID} a number"),
    (None, f"{_NO_ID} null"),
    (True, f"{_NO_ID} a boolean"),
    (False, f"{_NO_ID} a boolean"),
    ([1], f"{_NO_ID} an array"),
    ({"a": 1}, f"{_NO_ID} an object"),
]
NOTIFICATION: dict[str, Any] = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
EMPTY_BATCH = Difference("D8", "empty", worded("Validation error: an empty batch"))
UNPARSABLE = "Parse error: EOF while parsing an object at line 1 column 1"
OTHER_VERBS = ("PUT", "PATCH", "HEAD", "TRACE")
OTHER_PATHS = ("/", "/mcp/x", "/mcpx", "/MCP", "/nothing")
NO_JSON = ("None", "", "text/plain", "application/x-www-form-urlencoded")
LIKE_JSON = ("application/jsonp", "application/json-rpc")
TOO_LARGE = instead(refused(413, f"Request body too large: at most {LIMIT_BYTES} bytes are accepted"))
UNWANTED = (
    "application/json;q=0, text/event-stream",
    "application/json, text/event-stream; q=0.0",
    "application/json;q=0, */*",
)
NOT_BOTH = "Not Acceptable: Client must accept both application/json and text/event-stream"
REBOUND = (
    "a page may have reached this server at a loopback address under another name; "
    "where a proxy forwards that name, TMCP_ALLOWED_HOSTS has to list it"
)
PONG = done(1)
PONG_1: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "result": {}}
PONG_2: dict[str, Any] = {**PONG_1, "id": "two"}


@interaction(versions=HANDSHAKE)
async def unknown_method(client: Client) -> Steps:
    for method in ("unknown", "tools/unknown", "", "TOOLS/LIST", "notifications/initialized", "rpc.discover"):
        yield repr(method), await client.request(method)
    yield "with params", await client.request("unknown", {"a": 1})


@interaction(versions=HANDSHAKE)
async def unknown_names(client: Client) -> Steps:
    yield "tool", await client.call("unknown")
    yield "prompt", await client.request("prompts/get", {"name": "unknown"})
    yield "resource", await client.request("resources/read", {"uri": "test://unknown"})


@interaction(kinds=("everything",))
async def broken_resources_and_prompts(client: Client) -> Steps:
    for uri in ("broken", "refused", "items/missing", "items/a/b"):
        yield uri, await client.request("resources/read", {"uri": f"test://{uri}"})
    yield "prompt", await client.request("prompts/get", {"name": "broken"})
    yield "no arguments", await client.request("prompts/get", {"name": "greet"})
    yield "wrong arguments", await client.request("prompts/get", {"name": "greet", "arguments": {"name": 1}})
    yield "unknown argument", await client.request("prompts/get", {"name": "simple", "arguments": {"x": "1"}})


@interaction(versions=HANDSHAKE)
async def invalid_params(client: Client) -> Steps:
    cases: list[tuple[str, Any]] = [
        ("tools/call", None),
        ("tools/call", {}),
        ("tools/call", {"name": "echo"}),
        ("tools/call", {"name": 1}),
        ("tools/call", {"name": "echo", "arguments": [1]}),
        ("tools/call", {"name": "echo", "arguments": "x"}),
        ("tools/call", {"name": "echo", "arguments": {"value": "x"}, "_meta": 1}),
        ("tools/call", {"name": "echo", "arguments": {"value": "x"}, "_meta": {"progressToken": {}}}),
        ("prompts/get", {}),
        ("prompts/get", {"name": ["x"]}),
        ("prompts/get", {"name": "simple", "arguments": 3}),
        ("resources/read", {}),
        ("resources/read", {"uri": 5}),
        ("resources/read", {"uri": ""}),
        ("resources/read", {"uri": "no uri at all"}),
        ("completion/complete", {}),
        ("completion/complete", {"ref": {"type": "ref/unknown"}, "argument": {"name": "a", "value": "b"}}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "a"}}),
        ("tools/list", {"cursor": 3}),
    ]
    for method, params in cases:
        yield f"{method} {params}", await client.request(method, params)


@interaction()
async def arguments_that_a_tool_rejects(client: Client) -> Steps:
    yield "missing", await client.call("echo")
    yield "wrong type", await client.call("echo", value=[1])


@interaction()
async def malformed_json(client: Client) -> Steps:
    for body in (
        b"",
        b"{",
        b"nonsense",
        b'{"jsonrpc": "2.0", "id": 1, "method": "ping"',
        b"\xff\xfe",
        b"{'a': 1}",
    ):
        yield repr(body), await client.send("POST", body)
    yield "two", await client.send("POST", b'{"jsonrpc":"2.0","id":1,"method":"ping"}{"jsonrpc":"2.0"}')
    yield (
        "NaN",
        await client.send("POST", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"a":NaN}}}'),
    )
    yield "afterwards", await client.request("ping")


@interaction(
    *(Difference("D8", name, worded(f"Validation error: {wrong}")) for name, _, wrong in NO_JSON_RPC)
)
async def no_json_rpc(client: Client) -> Steps:
    for name, body, _ in NO_JSON_RPC:
        yield name, await client.send("POST", json.dumps(body).encode())


@interaction(*everywhere("D8", map(repr, OTHER_VERSIONS), worded(f"Validation error: {WRONG_VERSION}")))
async def wrong_json_rpc_version(client: Client) -> Steps:
    for version in OTHER_VERSIONS:
        yield repr(version), await client.send("POST", {**PING, "jsonrpc": version})


@interaction(
    *(Difference("D8", name, worded(f"Validation error: {wrong}")) for name, _, wrong in WRONG_MEMBERS)
)
async def wrong_json_rpc_members(client: Client) -> Steps:
    for name, members, _ in WRONG_MEMBERS:
        yield name, await client.send("POST", {"jsonrpc": "2.0", "id": 1, **members})


@interaction(Difference("D8", "error without id", worded(f"Validation error: {NEITHER}")))
async def errors_of_no_request(client: Client) -> Steps:
    error = {"code": -32600, "message": "what was that?"}
    yield "error without id", await client.send("POST", {"jsonrpc": "2.0", "error": error})
    yield "error whose id is null", await client.send("POST", {"jsonrpc": "2.0", "id": None, "error": error})


@interaction()
async def odd_json_rpc_members(client: Client) -> Steps:
    yield "params is null", await client.send("POST", {**PING, "params": None})
    yield "unknown member", await client.send("POST", {**PING, "unknown": 1})
    yield "result and method", await client.send("POST", {**PING, "result": {}})
    both = {"result": {}, "error": {"code": 1, "message": ""}}
    yield "result and error", await client.send("POST", {"jsonrpc": "2.0", "id": 1, **both})
    yield "duplicate member", await client.send("POST", b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}')


@interaction()
async def odd_ids(client: Client) -> Steps:
    for id in (
        0,
        -1,
        2**31,
        2**53,
        2**53 + 1,
        2**64,
        "a",
        "",
        "0",
        "\u00fc\U0001f389",
        " ",
        "x" * 300,
        "a/b?c=d&e#f",
    ):
        yield f"{id!r:.40}", await client.request("ping", id=id)


@interaction(
    *(Difference("D9", repr(id), instead(refused(400, wrong, code=-32602))) for id, wrong in INVALID_IDS)
)
async def invalid_ids(client: Client) -> Steps:
    for id, _ in INVALID_IDS:
        yield repr(id), await client.request("ping", id=id)


@interaction()
async def odd_ids_in_streams(client: Client) -> Steps:
    for id in (0, -5, 2**53, "", "\u00fc\U0001f389", "a/b"):
        params = {"name": "progress", "arguments": {"steps": 2}, "_meta": {"progressToken": id}}
        yield repr(id), await client.request("tools/call", params, id=id)


@interaction(
    Difference("D8", "two requests", worded("Validation error: batches exist at 2025-03-26 only")),
    EMPTY_BATCH,
    versions=("2025-06-18", "2025-11-25"),
)
async def batch(client: Client) -> Steps:
    yield "two requests", await client.send("POST", [PING, {**PING, "id": 2}])
    yield "empty", await client.send("POST", [])


@interaction(
    Difference("D4", "two requests", instead({"status": 200, "messages": [PONG_1, PONG_2]})),
    Difference("D4", "a notification alone", instead({"status": 202, "messages": []})),
    Difference("D4", "a notification and a request", PONG),
    EMPTY_BATCH,
    Difference(
        "D8", "of nonsense", worded("Validation error: a JSON-RPC message is an object, not a number")
    ),
    versions=("2025-03-26",),
)
async def batch_at_2025_03_26(client: Client) -> Steps:
    yield "two requests", await client.send("POST", [PING, {**PING, "id": "two"}])
    yield "a notification alone", await client.send("POST", [NOTIFICATION])
    yield "a notification and a request", await client.send("POST", [NOTIFICATION, PING])
    yield "empty", await client.send("POST", [])
    yield "of nonsense", await client.send("POST", [1, PING])


@interaction()
async def wrong_accept(client: Client) -> Steps:
    for accept in (None, "", "application/json", "text/event-stream", "text/html", "application/*", "text/*"):
        yield f"POST {accept}", await client.send("POST", PING, headers={"accept": accept})
    for accept in (None, "application/json", "text/html"):
        yield f"GET {accept}", await client.send("GET", headers={"accept": accept})


@interaction(*everywhere("D19", UNWANTED, instead(refused(406, NOT_BOTH))))
async def unwanted_media_types(client: Client) -> Steps:
    for accept in UNWANTED:
        yield accept, await client.send("POST", PING, headers={"accept": accept})


@interaction()
async def right_accept(client: Client) -> Steps:
    for accept in (
        "*/*",
        "application/*, text/*",
        "APPLICATION/JSON, Text/Event-Stream",
        "application/json;q=0.5, text/event-stream; charset=utf-8, text/html",
    ):
        yield accept, await client.send("POST", PING, headers={"accept": accept})


@interaction(
    *everywhere("D7", NO_JSON, as_json_rpc),
    *everywhere("D10", LIKE_JSON, instead(refused(400, "Invalid Content-Type header"))),
    Difference("D10", "APPLICATION/JSON", PONG),
)
async def content_types(client: Client) -> Steps:
    yield "None", await client.send("POST", PING, headers={"content-type": None})
    for kind in (*NO_JSON[1:], *LIKE_JSON, "application/json; charset=utf-8", "APPLICATION/JSON"):
        yield kind, await client.send("POST", PING, headers={"content-type": kind})


@interaction(Difference("D3", "PUT", with_options))
async def missing_session(client: Client) -> Steps:
    nobody: dict[str, str | None] = {"mcp-session-id": None}
    for method in ("ping", "tools/list", "unknown"):
        yield method, await client.send("POST", client.message(method), headers=nobody)
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    yield "notification", await client.send("POST", notification, headers=nobody)
    yield "answer", await client.send("POST", {"jsonrpc": "2.0", "id": 1, "result": {}}, headers=nobody)
    yield "malformed", await client.send("POST", b"{", headers=nobody)
    yield "GET", await client.send("GET", headers=nobody)
    yield "DELETE", await client.send("DELETE", headers=nobody)
    yield "PUT", await client.send("PUT", PING, headers=nobody)


@interaction(opened=False)
async def no_session_and_no_version(client: Client) -> Steps:
    yield "ping", await client.request("ping")
    yield "tools/list", await client.request("tools/list")
    yield "GET", await client.send("GET")
    yield "DELETE", await client.send("DELETE")


@interaction(
    Difference("D13", "malformed", instead(refused(400, UNPARSABLE, code=-32700))),
    Difference("D13", "PUT", instead(with_options(refused(405, "Method Not Allowed")))),
)
async def unknown_session(client: Client) -> Steps:
    for id in ("unknown", "0" * 32, "\xe4", "a b", "x" * 2000, "../..", "'; --"):
        other: dict[str, str | None] = {"mcp-session-id": id}
        yield f"POST {id:.40}", await client.send("POST", PING, headers=other)
    other = {"mcp-session-id": "unknown"}
    yield "initialize", await client.send("POST", client.message("initialize", {}), headers=other)
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    yield "notification", await client.send("POST", notification, headers=other)
    yield "answer", await client.send("POST", {"jsonrpc": "2.0", "id": 1, "result": {}}, headers=other)
    yield "malformed", await client.send("POST", b"{", headers=other)
    yield "GET", await client.send("GET", headers=other)
    yield "DELETE", await client.send("DELETE", headers=other)
    yield "PUT", await client.send("PUT", PING, headers=other)


@interaction()
async def empty_session(client: Client) -> Steps:
    yield "POST", await client.send("POST", PING, headers={"mcp-session-id": ""})


@interaction(*everywhere("D3", OTHER_VERBS, with_options))
async def other_http_methods(client: Client) -> Steps:
    for verb in OTHER_VERBS:
        yield verb, await client.send(verb, PING)


@interaction(Difference("D3", "OPTIONS", instead(with_options({"status": 204, "messages": []}))))
async def options(client: Client) -> Steps:
    yield "OPTIONS", await client.send("OPTIONS")


@interaction(*everywhere("D7", OTHER_PATHS, as_json_rpc), Difference("D11", "/mcp/", PONG))
async def other_paths(client: Client) -> Steps:
    for path in (*OTHER_PATHS, "/mcp/"):
        yield path, await client.send("POST", PING, path=path)


@interaction()
async def query_string(client: Client) -> Steps:
    yield "POST", await client.send("POST", PING, path="/mcp?key=x&y=%20")


@interaction()
async def protocol_version_header(client: Client) -> Steps:
    for version in ("2024-11-05", "2025-03-26", "2025-06-18", None):
        yield f"{version}", await client.send("POST", PING, headers={"mcp-protocol-version": version})


@interaction()
async def unsupported_protocol_version_header(client: Client) -> Steps:
    for version in ("1999-12-31", "nonsense", "", "2099-01-01", "2025-11-25 ", "DRAFT-2026"):
        headers = {"mcp-protocol-version": version}
        yield f"POST {version!r}", await client.send("POST", PING, headers=headers)
    headers = {"mcp-protocol-version": "1999-12-31"}
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    yield "notification", await client.send("POST", notification, headers=headers)
    yield "GET", await client.send("GET", headers=headers)
    yield "DELETE", await client.send("DELETE", headers=headers)


@interaction(
    Difference("D7", f"{LIMIT_BYTES + 1} bytes", TOO_LARGE),
    Difference("D7", f"{LIMIT_BYTES + 1} bytes, not declared", TOO_LARGE),
    Difference("D7", "declared only", TOO_LARGE),
)
async def large_bodies(client: Client) -> Steps:
    around = len(b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"a":""}}}')
    for size in (LIMIT_BYTES, LIMIT_BYTES + 1):
        body = (
            b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"a":"'
            + b"x" * (size - around)
            + b'"}}}'
        )
        yield f"{size} bytes", await client.send("POST", body)
        yield f"{size} bytes, not declared", await client.send("POST", body, headers={"content-length": None})
    yield "declared only", await client.send("POST", PING, headers={"content-length": str(LIMIT_BYTES + 1)})
    for length in ("x", "-1", "\xb2", "1_0"):
        yield f"length {length}", await client.send("POST", PING, headers={"content-length": length})


@interaction(
    *everywhere("D7", ("https://evil.example", "null", "GET", "DELETE"), as_json_rpc),
    *everywhere("D12", ("evil.example", "evil.example:8000"), PONG),
    Difference("D12", "rebound", instead(refused(403, f"Invalid Origin header: {REBOUND}"))),
    Difference("D12", "rebound, GET", instead(refused(403, f"Invalid Host header: {REBOUND}"))),
)
async def origins_and_hosts(client: Client) -> Steps:
    for origin in ("http://localhost:3000", "http://127.0.0.1:8000", "https://evil.example", "null"):
        yield origin, await client.send("POST", PING, headers={"origin": origin})
    yield "GET", await client.send("GET", headers={"origin": "https://evil.example"})
    yield "DELETE", await client.send("DELETE", headers={"origin": "https://evil.example"})
    for host in ("localhost:80", "[::1]:8000", "evil.example", "evil.example:8000"):
        yield host, await client.send("POST", PING, headers={"host": host})
    rebound: dict[str, str | None] = {"host": "evil.example", "origin": "http://evil.example"}
    yield "rebound", await client.send("POST", PING, headers=rebound)
    yield "rebound, GET", await client.send("GET", headers={"host": "evil.example"})


@interaction()
async def deep_json(client: Client) -> Steps:
    deep = (
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"a":'
        + b"[" * 1000
        + b"]" * 1000
        + b"}}}"
    )
    yield "1000 levels", await client.send("POST", deep)
