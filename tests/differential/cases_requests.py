"""Every kind of request, and what the servers' features make of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from . import saying
from .intended import ADVERTISED, advertised, done, everywhere, instead, negotiated, without_meta
from .interactions import HANDSHAKE, Difference, interaction

if TYPE_CHECKING:
    from .client import Client
    from .interactions import Steps

EVERYTHING = ("everything",)
LOWLEVEL = ("lowlevel",)
TOO_LONG: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 0,
    "error": {
        "code": -32602,
        "message": "Invalid params: clientInfo and capabilities have 66120 bytes of JSON together; "
        "at most 65536 are accepted",
    },
}

ODD_CLIENTS: dict[str, dict[str, Any]] = {
    "zero bytes": {"clientInfo": {"name": "a\x00b", "version": "\x00"}},
    "nothing": {"clientInfo": {"name": "", "version": ""}, "capabilities": {}},
    "numbers": {"capabilities": {"experimental": {"a": {"b": [1.0, 1e300, 10**30, -0.0, 2**63]}}}},
    "emoji": {"clientInfo": {"name": "\U0001f389", "version": "\u2028"}},
    "null": {"capabilities": {"experimental": {"a": {"b": None}}}},
    "large": {"clientInfo": {"name": "x" * 65_000, "version": "1"}},
    "icons": {"clientInfo": {"name": "a", "version": "1", "icons": [{"src": "data:,x"}], "description": "d"}},
    "no number": {"capabilities": {"experimental": {"a": {"b": math.nan}}}},
}


@interaction(ADVERTISED, versions=("2024-11-05", *HANDSHAKE), opened=False)
async def initialize(client: Client) -> Steps:
    yield "initialize", await client.initialize()
    yield "a session", client.session is not None
    yield "initialized", await client.notify("notifications/initialized")
    yield "ping", await client.request("ping")


@interaction(ADVERTISED, opened=False)
async def initialize_with_unknown_version(client: Client) -> Steps:
    yield "initialize", await client.initialize(protocolVersion="1999-12-31")
    yield "ping", await client.request("ping")


@interaction(ADVERTISED, opened=False)
async def initialize_with_modern_version(client: Client) -> Steps:
    yield "initialize", await client.initialize(protocolVersion="2026-07-28")
    yield "ping", await client.request("ping")


@interaction(Difference("D18", "kept", without_meta), ADVERTISED, opened=False)
async def initialize_with_extra_fields(client: Client) -> Steps:
    info = {"name": "x", "version": "", "websiteUrl": "https://example.com", "unknown": [1]}
    capabilities = {"experimental": {"a": {"b": 1}}, "unknown": {}, "elicitation": {}}
    seen = await client.initialize(
        clientInfo=info, capabilities=capabilities, extra=1, _meta={"progressToken": 1}
    )
    yield "initialize", seen
    yield "kept", await client.call("about_client")


@interaction(*everywhere("D2", ODD_CLIENTS, advertised), opened=False)
async def odd_clients_are_remembered(client: Client) -> Steps:
    for name, params in ODD_CLIENTS.items():
        other = client.other()
        yield name, await other.initialize(**params)
        yield f"{name}, kept", await other.call("about_client")


@interaction(
    Difference("D20", "initialize", instead({"status": 200, "messages": [TOO_LONG]})),
    Difference("D20", "a session", instead(False)),
    opened=False,
)
async def a_client_that_says_too_much_of_itself(client: Client) -> Steps:
    yield "initialize", await client.initialize(clientInfo={"name": "x" * 66_000, "version": "1"})
    yield "a session", client.session is not None


@interaction(ADVERTISED, Difference("D21", "kept", negotiated), opened=False)
async def what_is_kept_of_an_unknown_version(client: Client) -> Steps:
    yield "initialize", await client.initialize(protocolVersion="1999-12-31")
    yield "kept", await client.call("about_client")


@interaction(Difference("D22", "a session", instead(False)), opened=False)
async def a_failed_initialize(client: Client) -> Steps:
    yield "initialize", await client.initialize(clientInfo={"name": "x"})
    yield "a session", client.session is not None


@interaction()
async def client_is_remembered(client: Client) -> Steps:
    yield "client", await client.call("about_client")


@interaction(versions=HANDSHAKE)
async def ping(client: Client) -> Steps:
    yield "ping", await client.request("ping")
    yield "with params", await client.request("ping", {"_meta": {"a": 1}})


@interaction(Difference("D1", "echo", instead("application/json")), versions=HANDSHAKE)
async def response_kinds(client: Client) -> Steps:
    for tool, arguments in (("echo", {"value": "x"}), ("logs", {})):
        async with client.calling(tool, **arguments) as exchange:
            yield tool, (await exchange.whole()).headers["content-type"].partition(";")[0]


@interaction(versions=HANDSHAKE)
async def list_tools(client: Client) -> Steps:
    yield "tools", await client.request("tools/list")
    yield "with params", await client.request("tools/list", {})


@interaction(versions=HANDSHAKE)
async def list_prompts(client: Client) -> Steps:
    yield "prompts", await client.request("prompts/list")


@interaction(versions=HANDSHAKE)
async def list_resources(client: Client) -> Steps:
    yield "resources", await client.request("resources/list")


@interaction(versions=HANDSHAKE)
async def list_resource_templates(client: Client) -> Steps:
    yield "templates", await client.request("resources/templates/list")


@interaction(versions=HANDSHAKE)
async def call_tool(client: Client) -> Steps:
    yield "call", await client.call("echo", value="hello")
    yield "again", await client.call("echo", value="")


@interaction(versions=HANDSHAKE, kinds=EVERYTHING)
async def read_resources(client: Client) -> Steps:
    for uri in ("text", "binary", "json", "items/a", "items/%C3%BC%20b", "seen/x"):
        yield uri, await client.request("resources/read", {"uri": f"test://{uri}"})


@interaction(versions=HANDSHAKE, kinds=LOWLEVEL)
async def read_resources_lowlevel(client: Client) -> Steps:
    yield "page 7", await client.request("resources/read", {"uri": "test://page/7"})


@interaction(versions=HANDSHAKE, kinds=EVERYTHING)
async def get_prompts(client: Client) -> Steps:
    yield "simple", await client.request("prompts/get", {"name": "simple"})
    yield "greet", await client.request("prompts/get", {"name": "greet", "arguments": {"name": "Zoë"}})
    both = {"name": "Zoë", "tone": "formal"}
    yield "greet formally", await client.request("prompts/get", {"name": "greet", "arguments": both})
    yield "rich", await client.request("prompts/get", {"name": "rich"})


@interaction(versions=HANDSHAKE, kinds=LOWLEVEL)
async def get_prompts_lowlevel(client: Client) -> Steps:
    yield "given", await client.request("prompts/get", {"name": "prompt-0", "arguments": {"a": "1"}})
    yield "not given", await client.request("prompts/get", {"name": "prompt-0"})


@interaction(versions=HANDSHAKE)
async def complete(client: Client) -> Steps:
    of_prompt = {"type": "ref/prompt", "name": "greet"}
    of_resource = {"type": "ref/resource", "uri": "test://items/{name}"}
    argument = {"name": "name", "value": "Z"}
    yield "prompt", await client.request("completion/complete", {"ref": of_prompt, "argument": argument})
    yield "resource", await client.request("completion/complete", {"ref": of_resource, "argument": argument})
    context = {"arguments": {"tone": "formal"}}
    params = {"ref": of_prompt, "argument": argument, "context": context}
    yield "context", await client.request("completion/complete", params)
    params = {"ref": of_prompt, "argument": {"name": "unknown", "value": ""}}
    yield "unknown", await client.request("completion/complete", params)
    params = {"ref": of_prompt, "argument": {"name": "broken", "value": ""}}
    yield "broken", await client.request("completion/complete", params)


@interaction(Difference("D2", "warning", done(1), kinds=EVERYTHING), versions=HANDSHAKE)
async def set_level(client: Client) -> Steps:
    yield "warning", await client.request("logging/setLevel", {"level": "warning"})
    yield "unknown level", await client.request("logging/setLevel", {"level": "loud"})
    yield "no level", await client.request("logging/setLevel", {})
    yield "handled", client.notebook.about("level")


@interaction(
    Difference("D2", "subscribe", done(1), kinds=EVERYTHING),
    Difference("D2", "again", done(2), kinds=EVERYTHING),
    Difference("D2", "unsubscribe", done(4), kinds=EVERYTHING),
    Difference("D2", "unsubscribe again", done(5), kinds=EVERYTHING),
    versions=HANDSHAKE,
)
async def subscribe(client: Client) -> Steps:
    yield "subscribe", await client.request("resources/subscribe", {"uri": "test://text"})
    yield "again", await client.request("resources/subscribe", {"uri": "test://text"})
    yield "no uri", await client.request("resources/subscribe", {})
    yield "unsubscribe", await client.request("resources/unsubscribe", {"uri": "test://text"})
    yield "unsubscribe again", await client.request("resources/unsubscribe", {"uri": "test://text"})
    yield "unsubscribe without uri", await client.request("resources/unsubscribe", {})
    yield "handled", [client.notebook.about("subscribed"), client.notebook.about("unsubscribed")]


@interaction(kinds=LOWLEVEL)
async def pages(client: Client) -> Steps:
    for cursor in (None, "10", "20", "30", "nonsense", 10):
        params = {} if cursor is None else {"cursor": cursor}
        yield f"tools {cursor!r}", await client.request("tools/list", params)
        yield f"resources {cursor!r}", await client.request("resources/list", params)
        yield f"templates {cursor!r}", await client.request("resources/templates/list", params)
        yield f"prompts {cursor!r}", await client.request("prompts/list", params)


@interaction(kinds=EVERYTHING, versions=HANDSHAKE)
async def every_content(client: Client) -> Steps:
    for tool in ("image", "audio", "embedded", "link", "mixed", "nothing", "numbers", "point", "with_meta"):
        yield tool, await client.call(tool)


@interaction(kinds=LOWLEVEL, versions=HANDSHAKE)
async def every_content_lowlevel(client: Client) -> Steps:
    yield "all", await client.call("all_content")
    yield "meta", await client.call("with_meta")


@interaction(versions=HANDSHAKE)
async def structured_content(client: Client) -> Steps:
    yield "structured", await client.call("structured", city="Bern")


@interaction()
async def unicode(client: Client) -> Steps:
    yield "result", await client.call("unicode")
    yield (
        "argument",
        await client.call("echo", value="\u2028 \u0085 \U0001f389 \\u0041 \x00 \x1f \r\n\n data: x"),
    )
    escaped = b'{"jsonrpc":"2.0","id":"\\ud83c\\udf89","method":"tools/call","params":'
    escaped += b'{"name":"echo","arguments":{"value":"\\u00e9 \xc3\xa9"}}}'
    yield "escaped", await client.send("POST", escaped)


UNWRITABLE = {"code": -32603, "message": "The result cannot be written as JSON"}


@interaction(
    Difference(
        "D17",
        "result",
        instead({"status": 200, "messages": [{"jsonrpc": "2.0", "id": 1, "error": UNWRITABLE}]}),
    )
)
async def text_that_cannot_be_encoded(client: Client) -> Steps:
    yield "result", await client.call("surrogate")
    yield "afterwards", await client.request("ping")
    body = client.message("tools/call", {"name": "echo", "arguments": {"value": saying.SURROGATE}})
    yield "argument", await client.send("POST", body)


@interaction(versions=HANDSHAKE)
async def values_come_back_as_they_were(client: Client) -> Steps:
    values: list[Any] = [
        *(1.0, -0.0, 1e16, 1e22, 1e-7, 1e308, 0.1, 2**53 + 1, 10**30, -(10**30)),
        *("", "\x00", "\U0001f389", None, True, [], {}, [[[]]], {"": {"\x00": []}}),
    ]
    yield "all", await client.call("given", anything=values)
    for value in values:
        yield f"one {value!r}", await client.call("given", anything=value)
    yield "in a notification", await client.call("say", level="alert", data=values, alone=False)


@interaction()
async def values_that_json_does_not_have(client: Client) -> Steps:
    for value in (math.nan, math.inf, -math.inf):
        yield f"{value}", await client.call("given", anything=value)
        yield f"{value} in a notification", await client.call("say", level="alert", data=[value], alone=False)


@interaction()
async def large_result(client: Client) -> Steps:
    yield "200 KB", await client.call("big", size=200_000)
    yield "2 MB", await client.call("big", size=2_000_000)
    yield "2 MB before the result", await client.call("say", level="alert", data="x" * 2_000_000, alone=False)


@interaction()
async def large_argument(client: Client) -> Steps:
    yield "1 MB", await client.call("echo", value="x" * 1_000_000)


@interaction()
async def failing_tools(client: Client) -> Steps:
    yield "is_error", await client.call("is_error")
    yield "raising", await client.call("raising")
    yield "mcp_error", await client.call("mcp_error")


@interaction(kinds=EVERYTHING)
async def failing_tools_of_mcpserver(client: Client) -> Steps:
    yield "tool_error", await client.call("tool_error")
    yield "wrong structure", await client.call("wrong_structure")


@interaction(kinds=LOWLEVEL)
async def result_that_is_no_result(client: Client) -> Steps:
    yield "call", await client.call("unserializable")


@interaction(kinds=EVERYTHING)
async def odd_arguments(client: Client) -> Steps:
    yield "least", await client.call("odd", integer=1)
    nested = {"city": "Bern", "celsius": 1, "more": True}
    yield (
        "most",
        await client.call(
            "odd",
            integer=-(2**60),
            number=1,
            flag=True,
            choice="b",
            nested=nested,
            items=[1, 2, 3],
            anything={"a": [None]},
        ),
    )
    yield "coerced", await client.call("odd", integer="7", number="1.5", flag="yes")
    yield (
        "JSON in a string",
        await client.call("odd", integer=1, items="[1, 2]", nested='{"city": "B", "celsius": 2}'),
    )
    yield "missing", await client.call("odd")
    yield "wrong type", await client.call("odd", integer="x")
    yield "wrong choice", await client.call("odd", integer=1, choice="c")
    yield "too many", await client.call("odd", integer=1, items=[1, 2, 3, 4])
    yield "unknown", await client.call("odd", integer=1, unknown=2)
    yield "null", await client.call("odd", integer=None)


@interaction(kinds=LOWLEVEL)
async def custom_method(client: Client) -> Steps:
    yield "plain", await client.request("example/custom")
    yield "params", await client.request("example/custom", {"anything": [1]})
    yield "failing", await client.request("example/custom", {"_meta": {"fail": True}})
    yield "wrong meta", await client.request("example/custom", {"_meta": 3})


@interaction(versions=HANDSHAKE)
async def meta_is_passed_through(client: Client) -> Steps:
    for meta in (
        {},
        {"example.com/a": [1, {"b": None}]},
        {"progressToken": "t", "x": 1},
        {"progressToken": 0},
    ):
        params = {"name": "about_request", "arguments": {}, "_meta": meta}
        yield str(meta), await client.request("tools/call", params, id=str(meta))


@interaction()
async def headers_reach_the_tool(client: Client) -> Steps:
    body = client.message("tools/call", {"name": "about_request", "arguments": {}})
    yield "header", await client.send("POST", body, headers={"x-probe": "yes, i am"})


@interaction(versions=HANDSHAKE)
async def request_about_itself(client: Client) -> Steps:
    yield "request", await client.call("about_request")


@interaction(versions=HANDSHAKE, kinds=LOWLEVEL)
async def methods_of_another_era(client: Client) -> Steps:
    for method in ("server/discover", "subscriptions/listen", "tasks/list", "sampling/createMessage"):
        yield method, await client.request(method, {})
