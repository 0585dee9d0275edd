"""What the front doors' events are in ASGI's words: whole scopes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hosts.recorded import (
    PLAIN,
    UNKNOWN,
    function_url,
    http_api,
    http_api_1,
    in_base64,
    lattice_1,
    lattice_2,
    load_balancer,
    rest_api,
)
from tmcp_serverless.hosts.lambda_events import (
    FrontDoor,
    FunctionUrl,
    HttpApi,
    LoadBalancer,
    RestApi,
    front_door_of,
)
from tmcp_serverless.hosts.other_events import unknown_front_door
from tmcp_serverless.http import path_of

SENT = {"host": "mcp.example", "x-forwarded-proto": "https", "x-forwarded-port": "443", "X-Custom": "yes"}


def front_door(event: Any) -> FrontDoor:
    found = front_door_of(event)
    assert found is not None
    return found


def test_a_function_urls_request() -> None:
    event = function_url("GET", {**SENT, "cookie": "dropped"}, path="/a%20b")
    event["cookies"] = ["one=1", "two=2"]
    event["rawQueryString"] = "a=1&a=2&b=%2F"
    assert front_door(event).scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "root_path": "",
        "query_string": b"a=1&a=2&b=%2F",
        "headers": [
            (b"host", b"mcp.example"),
            (b"x-forwarded-proto", b"https"),
            (b"x-forwarded-port", b"443"),
            (b"x-custom", b"yes"),
            (b"cookie", b"one=1; two=2"),
        ],
        "client": ("192.0.2.1", 0),
        "server": ("mcp.example", 443),
    }


def test_a_rest_apis_request() -> None:
    event = rest_api("POST", SENT)
    event["multiValueHeaders"]["X-Custom"] = ["yes", "no"]
    event["multiValueQueryStringParameters"] = {"a": ["1", "2"], "b": ["/"]}
    event["queryStringParameters"] = {"a": "2", "b": "/"}
    assert front_door(event).scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "https",
        "path": "/Prod/mcp",
        "raw_path": b"/Prod/mcp",
        "root_path": "/Prod",
        "query_string": b"a=1&a=2&b=%2F",
        "headers": [
            (b"host", b"mcp.example"),
            (b"x-forwarded-proto", b"https"),
            (b"x-forwarded-port", b"443"),
            (b"x-custom", b"yes"),
            (b"x-custom", b"no"),
        ],
        "client": ("192.0.2.1", 0),
        "server": ("mcp.example", 443),
    }


@pytest.mark.parametrize(
    ("resource", "parameters", "path", "whole", "root"),
    [
        ("/{proxy+}", {"proxy": "mcp"}, "/mcp", "/Prod/mcp", "/Prod"),
        ("/{proxy+}", {"proxy": "mcp"}, "/mcp/", "/Prod/mcp/", "/Prod"),
        ("/mcp", None, "/mcp", "/Prod/mcp", "/Prod"),
        ("/{tenant}/{proxy+}", {"tenant": "t", "proxy": "a/mcp"}, "/t/a/mcp", "/Prod/t/a/mcp", "/Prod"),
        # A custom domain with a base path: `path` has that, too.
        ("/{proxy+}", {"proxy": "mcp"}, "/orders/mcp", "/orders/mcp", "/orders"),
        ("/mcp", None, "/mcp", "/mcp", ""),
        # What a test of the console sends.
        ("/mcp", None, "/mcp", None, ""),
    ],
)
def test_a_rest_apis_stage_and_base_path_are_outside_of_the_application(
    resource: str, parameters: dict[str, str] | None, path: str, whole: str | None, root: str
) -> None:
    event = rest_api(path=path)
    event |= {"resource": resource, "pathParameters": parameters}
    event["requestContext"]["path"] = whole
    scope = front_door(event).scope
    assert scope["root_path"] == root
    assert scope["path"] == (whole or path)
    assert path_of(scope) == (whole or path).removeprefix(root).rstrip("/")


@pytest.mark.parametrize(
    ("change", "root", "path"),
    [
        ({}, "", "/mcp"),
        ({"rawPath": "/dev/mcp", "stage": "dev"}, "/dev", "/mcp"),
        ({"rawPath": "/dev", "stage": "dev"}, "/dev", ""),
        ({"rawPath": "/device/mcp", "stage": "dev"}, "", "/device/mcp"),
        ({"rawPath": "/dev/mcp", "pathParameters": {"proxy": "mcp"}}, "/dev", "/mcp"),
        ({"rawPath": "/dev/mcp", "stage": "dev", "pathParameters": {"proxy": "other"}}, "/dev", "/mcp"),
        ({"rawPath": "/dev/mcp", "stage": "dev", "routeKey": "$default"}, "/dev", "/mcp"),
        ({"rawPath": "/dev/a%20b", "stage": "dev", "pathParameters": {"proxy": "a b"}}, "/dev", "/a b"),
        ({"rawPath": "/t/mcp", "routeKey": "ANY /{t}/mcp", "pathParameters": {"t": "t"}}, "", "/t/mcp"),
    ],
)
def test_an_http_apis_stage_is_outside_of_the_application(
    change: dict[str, Any], root: str, path: str
) -> None:
    event = http_api()
    event["requestContext"]["stage"] = change.pop("stage", "$default")
    place = front_door({**event, **change}).place
    assert place["root_path"] == root
    assert place["path"] == root + path
    assert place["raw_path"] == change.get("rawPath", path).encode()


@pytest.mark.parametrize(
    ("resource", "path", "whole", "stage", "root"),
    [
        ("/{proxy+}", "/mcp", "/Prod/mcp", "Prod", "/Prod"),
        ("/{proxy+}", "/dev/mcp", "/dev/mcp", "dev", "/dev"),
        ("$default", "/dev/mcp", "/dev/mcp", "dev", "/dev"),
        ("$default", "/mcp", "/mcp", "$default", ""),
        # A custom domain with a base path.
        ("/{proxy+}", "/notes/mcp", "/notes/mcp", "$default", "/notes"),
    ],
)
def test_an_http_apis_format_1_has_a_domains_base_path_as_well(
    resource: str, path: str, whole: str, stage: str, root: str
) -> None:
    event: dict[str, Any] = {**http_api_1(), "resource": resource, "path": path}
    event["requestContext"] |= {"path": whole, "stage": stage}
    place = front_door(event).place
    assert (place["root_path"], place["path"]) == (root, whole)


@pytest.mark.parametrize("event", [function_url, rest_api])
def test_bodies_are_text_or_base64_or_not_there(event: Any) -> None:
    body = '{"text": "üñ 😀"}'
    assert front_door(event("POST", None, body)).body == body.encode()
    assert front_door(in_base64(event("POST", None, body))).body == body.encode()
    assert front_door({**event(), "body": None}).body == b""
    assert front_door({each: value for each, value in event().items() if each != "body"}).body == b""


@pytest.mark.parametrize(
    ("event", "kind", "streams"),
    [
        (function_url(), FunctionUrl, True),
        (rest_api(), RestApi, True),
        (http_api(), HttpApi, False),
        (http_api_1(), HttpApi, False),
        (load_balancer(), LoadBalancer, False),
    ],
)
def test_each_front_door_is_known_and_whether_it_streams(
    event: Any, kind: type[FrontDoor], *, streams: bool
) -> None:
    found = front_door(event)
    assert type(found) is kind
    assert found.streams is streams


@pytest.mark.parametrize("event", PLAIN)
def test_other_events_are_no_requests(event: Any) -> None:
    assert front_door_of(event) is None


@pytest.mark.parametrize(
    ("host", "server"),
    [
        ("a:b", ("", 443)),
        ("a:99999", ("", 443)),
        ("[x", ("", 443)),
        ("a:", ("a", 443)),
        ("[::1]:8000", ("::1", 8000)),
        ("", ("", 443)),
    ],
)
def test_a_host_that_cannot_be_read_is_none(host: str, server: tuple[str, int]) -> None:
    for event in (function_url("GET", {"host": host}), rest_api("GET", {"host": host})):
        scope = front_door(event).scope
        assert (scope["server"], scope["headers"]) == (server, [(b"host", host.encode())])


@pytest.mark.parametrize("port", ["", "443, 443", "x", "-1", "\u0661"])
def test_a_port_that_cannot_be_read_is_the_schemes(port: str) -> None:
    scope = front_door(function_url("GET", {"host": "a", "x-forwarded-port": port})).scope
    assert scope["server"] == ("a", 443)


@pytest.mark.parametrize("event", [function_url, rest_api])
def test_what_is_null_in_an_event_is_not_there(event: Any) -> None:
    nulls = {**event("GET"), "headers": None, "multiValueHeaders": None}
    assert front_door(nulls).scope["headers"] == []
    one = {**event("GET"), "headers": {"x": None, "y": "1"}, "multiValueHeaders": None}
    assert front_door(one).scope["headers"] == [(b"y", b"1")]
    several = {
        **rest_api("GET"),
        "multiValueHeaders": {"x": None, "y": ["1"]},
        "pathParameters": {"proxy": None},
    }
    several["requestContext"]["identity"] = None
    scope = front_door(several).scope
    assert (scope["headers"], scope["client"]) == ([(b"y", b"1")], None)


def test_a_function_urls_domain_may_be_null() -> None:
    event = function_url()
    event["requestContext"]["domainName"] = None
    assert type(front_door(event)) is FunctionUrl


@pytest.mark.parametrize("event", [function_url, rest_api])
def test_half_of_a_surrogate_pair_is_no_text(event: Any) -> None:
    scope = front_door(event("POST", {"x": "a\ud800"}, path="/a\udc00")).scope
    assert scope["headers"] == [(b"x", b"a?")]
    assert scope["path"].endswith("/a?")
    assert scope["raw_path"].endswith(b"/a?")
    query = {**rest_api(), "multiValueQueryStringParameters": {"a": ["\ud800"], "\udc00": ["b"]}}
    assert front_door(query).scope["query_string"] == b"a=%3F&%3F=b"
    body = front_door(event("POST", None, '"\ud800"')).body
    with pytest.raises(UnicodeDecodeError):
        body.decode()


def test_where_there_is_no_host_the_port_is_the_schemes() -> None:
    assert front_door(function_url("GET", {})).scope["server"] == ("", 443)
    assert front_door(function_url("GET", {"x-forwarded-proto": "http"})).scope["server"] == ("", 80)
    assert front_door(function_url("GET", {"host": "localhost:8000"})).scope["server"] == ("localhost", 8000)


@pytest.mark.parametrize("event", [lattice_1, lattice_2])
def test_a_request_of_vpc_lattice(event: Any) -> None:
    sent = event("GET", {"host": "mcp.example", "x-forwarded-proto": "http"}, path="/a%20b")
    sent["query_string_parameters" if "raw_path" in sent else "queryStringParameters"] = {
        "a": ["1", "2"],
        "b": "/",
    }
    assert front_door(sent).scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "root_path": "",
        "query_string": b"a=1&a=2&b=%2F",
        "headers": [
            (b"x-forwarded-for", b"10.213.229.10"),
            (b"host", b"mcp.example"),
            (b"x-forwarded-proto", b"http"),
        ],
        "client": ("10.213.229.10", 0),
        "server": ("mcp.example", 80),
    }
    assert not front_door(sent).streams


@pytest.mark.parametrize("flag", [True, "true"])
def test_a_body_of_vpc_lattice_may_be_in_base64(flag: object) -> None:
    event = {**lattice_1(path="/mcp?a=1"), "body": "aGk=", "is_base64_encoded": flag}
    assert front_door(event).body == b"hi"
    assert front_door(event).scope["query_string"] == b"a=1"
    assert front_door(event).scope["path"] == "/mcp"


@pytest.mark.parametrize("event", UNKNOWN)
def test_a_request_of_another_front_door_is_known_as_one(event: Any) -> None:
    assert front_door_of(event) is None
    assert unknown_front_door(event)


@pytest.mark.parametrize("event", PLAIN)
def test_what_is_no_request_is_not_taken_for_one(event: Any) -> None:
    assert unknown_front_door(event) is None
