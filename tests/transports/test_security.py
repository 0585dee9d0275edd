"""Which pages may reach a server, by what their browser says of itself: rule B1 of the checklist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.client import Client
from tests.support.modern import ModernClient
from tests.support.servers import small_server
from tmcp_serverless import HttpTransport
from tmcp_serverless.http import HttpProblem, OriginPolicy

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler, NewManagers

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
REBOUND: dict[str, Any] = {"host": "evil.example:8000", "origin": "http://evil.example:8000"}
"""What a page sends whose name has been made to resolve to 127.0.0.1."""

LOOPBACK = ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1", "localhost"]
ELSEWHERE = ["10.0.0.7", "169.254.8.1", "::ffff:10.0.0.7", "", "/run/app.sock"]


def outcome(
    policy: OriginPolicy,
    host: str,
    origin: str | None,
    server: str | None = "127.0.0.1",
    *,
    method: str = "POST",
) -> int:
    """Return the status that the headers are refused with, or 200."""
    headers = [(b"host", host.encode("latin-1"))]
    if origin is not None:
        headers.append((b"origin", origin.encode("latin-1")))
    try:
        where = None if server is None else (server, 8000)
        policy.check_scope({"method": method, "headers": headers, "server": where})
    except HttpProblem as problem:
        return problem.status
    return 200


async def test_b1_a_page_whose_name_was_made_to_lead_here_is_403(new_handler: NewHandler) -> None:
    client = Client(new_handler(small_server()).app)
    for verb in ("POST", "GET", "DELETE", "OPTIONS"):
        async with client.send(verb, PING if verb == "POST" else None, **REBOUND) as exchange:
            await exchange.whole()
        assert exchange.status == 403
        assert "TMCP_ALLOWED_HOSTS" in exchange.messages[0]["error"]["message"]
    async with client.send("POST", PING, host=REBOUND["host"]) as no_page:
        assert (await no_page.whole()).status == 400  # It has no session, and no more is wrong with it.


async def test_b1_such_a_page_is_403_where_its_browser_does_not_say_who_it_is(
    new_handler: NewHandler,
) -> None:
    client = Client(new_handler(small_server()).app)
    for client.path in ("/mcp", "/sse"):
        for verb in ("GET", "HEAD"):
            async with client.send(verb, host=REBOUND["host"]) as exchange:
                await exchange.whole()
            assert exchange.status == 403
            assert "TMCP_ALLOWED_HOSTS" in exchange.messages[0]["error"]["message"]
    client.path = "/healthz"
    async with client.send("GET", host=REBOUND["host"]) as healthy:
        assert (await healthy.whole()).status == 200


async def test_b1_such_a_page_is_refused_in_the_modern_era_too(new_handler: NewHandler) -> None:
    client = ModernClient(new_handler(small_server()).app)
    assert (await client.ask("tools/list", **REBOUND)).status == 403
    assert (await client.ask("tools/list")).status == 200


async def test_b1_the_transport_refuses_such_a_page_by_itself(new_managers: NewManagers) -> None:
    client = Client(HttpTransport(small_server(), session_manager=new_managers()))
    assert (await client.post(PING, **REBOUND)).status == 403


async def test_b1_a_host_that_is_allowed_may_be_forwarded_by_a_proxy_of_this_machine(
    new_handler: NewHandler,
) -> None:
    client = Client(new_handler(small_server(), allowed_hosts="mcp.example.com").app)
    client.always = {"host": "mcp.example.com", "origin": "https://mcp.example.com"}
    await client.initialize()
    assert await client.result("ping") == {}
    assert (await client.ask("ping", **REBOUND)).status == 421


@pytest.mark.parametrize("server", LOOPBACK)
def test_at_a_loopback_address_a_page_names_the_host_so_that_no_dns_was_asked(server: str) -> None:
    policy = OriginPolicy()
    for name in ("localhost", "LOCALHOST", "app.localhost", "127.0.0.1", "[::1]", "0.0.0.0"):
        assert outcome(policy, f"{name}:8000", f"http://{name}:8000", server) == 200
    for name in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "localhost.", ""):
        assert outcome(policy, f"{name}:8000", f"http://{name}:8000", server) == 403
        for method in ("POST", "DELETE", "OPTIONS"):
            assert outcome(policy, f"{name}:8000", None, server, method=method) == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_at_a_loopback_address_a_get_names_the_host_in_the_same_way(method: str) -> None:
    policy = OriginPolicy()
    for name in ("localhost", "app.localhost", "127.0.0.1", "[::1]", "0.0.0.0"):
        assert outcome(policy, f"{name}:8000", None, method=method) == 200
    for name in ("evil.example", "localhost.evil.example", "localhost."):
        for server in LOOPBACK:
            assert outcome(policy, f"{name}:8000", None, server, method=method) == 403
        for server in (*ELSEWHERE, None):
            assert outcome(policy, f"{name}:8000", None, server, method=method) == 200
        for configured in (
            OriginPolicy(allowed_hosts=(f"{name}:8000",)),
            OriginPolicy(allowed_origins=("https://a.example",)),
        ):
            assert outcome(configured, f"{name}:8000", None, method=method) == 200


@pytest.mark.parametrize("server", [*ELSEWHERE, None])
def test_elsewhere_the_origin_is_the_hosts_own(server: str | None) -> None:
    policy = OriginPolicy()
    assert outcome(policy, "mcp.example.com", "https://mcp.example.com", server) == 200
    assert outcome(policy, "MCP.example.com:443", "HTTPS://mcp.EXAMPLE.com", server) == 200
    assert outcome(policy, "mcp.example.com", "https://evil.example", server) == 403


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://localhost:1, https://evil.example",
        "http://localhost@evil.example",
        "http://localhost:1/path",
        "http://localhost:x",
        "//localhost",
        "localhost",
        "http://",
        "http://[::1",
        "http://\xff",
    ],
)
def test_what_is_no_origin_of_this_machine_is_403(origin: str) -> None:
    assert outcome(OriginPolicy(), "127.0.0.1:8000", origin) == 403


@pytest.mark.parametrize("host", ["", "[::1", "127.0.0.1:8000, evil.example", "me@127.0.0.1", "\xff"])
def test_what_is_no_host_of_this_machine_has_no_pages(host: str) -> None:
    assert outcome(OriginPolicy(), host, "http://localhost:3000") == 403
    assert outcome(OriginPolicy(), host, None) == 200


def test_a_header_that_is_repeated_is_no_value_that_is_allowed() -> None:
    policy = OriginPolicy(allowed_hosts=("a.example",), allowed_origins=("https://a.example",))
    headers = [(b"host", b"a.example"), (b"origin", b"https://a.example")]
    scope: dict[str, Any] = {"headers": headers, "server": None}
    assert policy.check_scope(scope) == "https://a.example"
    for again, status in (((b"host", b"evil.example"), 421), ((b"origin", b"https://evil.example"), 403)):
        with pytest.raises(HttpProblem) as refused:
            policy.check_scope({**scope, "headers": [*headers, again]})
        assert refused.value.status == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("mcp.example.com", 200),
        ("MCP.Example.COM", 200),
        ("mcp.example.com:443", 421),
        ("any.example", 200),
        ("any.example:8443", 200),
        ("any.example:x", 421),
        ("any.example:80@evil.example", 421),
        ("[::1]:8000", 200),
        ("[::1]", 200),
        ("", 421),
    ],
)
def test_given_hosts_are_compared_whatever_their_case(host: str, status: int) -> None:
    policy = OriginPolicy(allowed_hosts=("Mcp.example.com", "any.example:*", "[::1]:*"))
    assert outcome(policy, host, None) == status


def test_given_origins_are_compared_whatever_their_case() -> None:
    policy = OriginPolicy(allowed_origins=("https://App.example.com", "http://localhost:*"))
    for origin in ("https://app.example.com", "HTTPS://APP.example.com", "http://localhost:6274"):
        assert outcome(policy, "any.example", origin) == 200
    for origin in ("http://app.example.com", "http://localhost:6274.evil.example", "http://localhost.evil"):
        assert outcome(policy, "any.example", origin) == 403
    assert outcome(OriginPolicy(allowed_origins=("*",)), "any.example", "null") == 200
