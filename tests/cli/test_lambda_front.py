"""The emulator's front door: what it makes of a request, where it is, and whom it lets in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tmcp_serverless.cli.balancer import listen
from tmcp_serverless.cli.lambda_emulator import Function, LambdaEmulator
from tmcp_serverless.cli.lambda_emulator.front import INVOKE_PATH

pytestmark = pytest.mark.anyio

FUNCTION = Function("tests.hosts.lambda_app.handler", Path(__file__).parents[2])


@pytest.mark.parametrize(("front_door", "root"), [("function-url", ""), ("rest-api", "/Prod")])
async def test_a_path_is_decoded_once(front_door: str, root: str) -> None:
    async with (
        LambdaEmulator(FUNCTION, front_door=front_door) as emulator,
        httpx.AsyncClient(base_url=emulator.url, timeout=60) as client,
    ):
        for path, decoded in (("/a%252Fb", "/a%2Fb"), ("/m%C3%BC%20p", "/mü p"), ("/a%2Fb+c", "/a/b+c")):
            assert (await client.get(f"/path{path}")).text == f"{root}/path{decoded} {root}/path{path}"


@pytest.mark.parametrize(
    ("host", "url"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")]
)
async def test_its_address_is_where_it_listens(host: str, url: str) -> None:
    async with (
        LambdaEmulator(FUNCTION, listener=listen(host, 0)) as emulator,
        httpx.AsyncClient(timeout=60) as client,
    ):
        assert emulator.url == f"http://{url}:{emulator.port}"
        assert (await client.get(f"{emulator.url}/empty")).status_code == 202


@pytest.mark.parametrize(
    ("host", "origin", "accepted"),
    [
        ("evil.example", "http://evil.example", False),
        ("evil.example:8000", "http://evil.example:8000", False),
        ("localhost:8000", "http://localhost:6274", True),
        ("127.0.0.1:8000", "http://127.0.0.1:8000", True),
        ("evil.example", None, True),
        # Which other pages may come in is the function's to say.
        ("localhost:8000", "https://app.example.com", True),
    ],
)
async def test_a_page_whose_own_name_leads_here_is_refused(
    host: str, origin: str | None, *, accepted: bool
) -> None:
    headers = {"host": host, **({"origin": origin} if origin else {})}
    async with (
        LambdaEmulator(FUNCTION) as emulator,
        httpx.AsyncClient(base_url=emulator.url, timeout=60) as client,
    ):
        answer = await client.post("/empty", headers=headers)
        assert answer.status_code == (202 if accepted else 403)
        assert accepted or "TMCP_ALLOWED_HOSTS" in answer.text


@pytest.mark.parametrize("origin", ["http://evil.example", "https://app.example.com", "null"])
async def test_no_page_may_hand_in_an_event(origin: str) -> None:
    async with (
        LambdaEmulator(FUNCTION) as emulator,
        httpx.AsyncClient(base_url=emulator.url, timeout=60) as client,
    ):
        answer = await client.post(INVOKE_PATH, content=b"{}", headers={"origin": origin})
        assert answer.status_code == 403
        assert (await client.post(INVOKE_PATH, content=b"{}")).json()["event"] == {}


@pytest.mark.parametrize("name", ["TMCP_ALLOWED_HOSTS", "TMCP_ALLOWED_ORIGINS"])
async def test_whoever_says_who_may_come_in_is_believed(name: str) -> None:
    function = replace(FUNCTION, environment={name: "tunnel.example"})
    async with (
        LambdaEmulator(function) as emulator,
        httpx.AsyncClient(base_url=emulator.url, timeout=60) as client,
    ):
        headers = {"host": "tunnel.example", "origin": "https://tunnel.example"}
        assert (await client.post("/empty", headers=headers)).status_code == 202
