"""Pages of other origins in a real browser, with the official client: those that may come in, and others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.e2e.cutting import Cutter

from .conftest import Browser, containers

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.support.databases import Databases

STEPS = list(range(1, 13))


class Served:
    """Two containers over one database."""

    def __init__(self, ports: list[int], database_url: str) -> None:
        self.ports = ports
        self._database_url = database_url

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{self.ports[0]}{path}" for path in ("/mcp", "/sse")]

    def cutter(self) -> Cutter:
        return Cutter(*(f"http://127.0.0.1:{port}/mcp" for port in self.ports))

    async def sessions(self) -> int:
        connection = await asyncpg.connect(self._database_url)
        try:
            return await connection.fetchval("SELECT count(*) FROM tmcp_session_context")
        finally:
            await connection.close()


@pytest.fixture(scope="module")
def served(browser: Browser, databases: Databases) -> Generator[Served]:
    """Servers that pages of one origin may use."""
    url = databases.take()
    origins = {"TMCP_ALLOWED_ORIGINS": browser.pages.origin("friend"), "TMCP_RETRY_MILLISECONDS": "100"}
    with containers("tests.browser.server", url, count=2, **origins) as ports:
        yield Served(ports, url)
    databases.give_back(url)


async def test_a_page_has_a_session_is_asked_and_resumes_a_broken_stream(
    browser: Browser, served: Served
) -> None:
    async with served.cutter() as cutter:
        page = browser.pages.origin("friend")
        visit = await browser.run("handshake", cutter.url, page=page, cut=cutter.cut)
    told = visit.result
    assert cutter.cuts == 1
    assert told["version"] == "2025-11-25"
    assert told["session"]
    assert (told["sum"], told["consent"], told["asked"]) == ("5", "accept: True", ["Sure?"])
    assert told["cut"] == {"text": "12 steps", "progress": STEPS}
    requests: list[dict[str, Any]] = told["requests"]
    assert requests[0]["session"], "the page reads its session's id"
    assert [each for each in requests if each["resumes"] and each["status"] == 200]
    assert [each["status"] for each in requests if each["method"] == "DELETE"] == [200]
    assert told["gone"] == 404, "the page reads that its session has ended"
    assert set(visit.statuses("OPTIONS")) == {200}


async def test_a_page_speaks_the_modern_era(browser: Browser, served: Served) -> None:
    async with served.cutter() as cutter:
        visit = await browser.run("modern", cutter.url, page=browser.pages.origin("friend"))
    told = visit.result
    assert (told["version"], told["session"]) == ("2026-07-28", None)
    assert (told["sum"], told["consent"], told["asked"]) == ("5", "accept: True", ["Sure?"])
    assert told["worked"] == {"text": "12 steps", "progress": STEPS}
    assert {each["method"] for each in told["requests"]} == {"POST"}
    assert {each["status"] for each in told["requests"]} == {200}


@pytest.mark.parametrize("attempt", ["attempts", "attemptsInSandbox"])
async def test_a_page_of_another_origin_is_refused_and_changes_nothing(
    browser: Browser, served: Served, attempt: str
) -> None:
    """A sandboxed frame has no origin, not even that of its page."""
    page = browser.pages.origin("stranger" if attempt == "attempts" else "friend")
    before = await served.sessions()
    visit = await browser.run(attempt, *served.urls, page=page)
    assert visit.result == {
        "client": "TypeError",
        "modern": "SdkError",
        "fetch": "TypeError",
        "blind": "opaque",
        "events": "error",
    }
    assert set(visit.statuses("OPTIONS")) == {403}
    assert visit.statuses("POST") == [403], "no preflight announces a form's POST"
    assert visit.statuses("GET", "/sse") == [403]
    assert await served.sessions() == before


async def test_the_same_attempts_of_a_page_that_may_come_in_succeed(browser: Browser, served: Served) -> None:
    before = await served.sessions()
    visit = await browser.run("attempts", *served.urls, page=browser.pages.origin("friend"))
    assert visit.result == {
        "client": None,
        "modern": None,
        "fetch": None,
        "blind": "opaque",
        "events": "open",
    }
    assert await served.sessions() >= before + 2


async def test_a_name_that_resolves_to_this_machine_opens_nothing(
    browser: Browser, databases: Databases
) -> None:
    """DNS rebinding: the page and the server have one origin, so the browser asks and hides nothing."""
    url = databases.take()
    with containers("tests.browser.server", url, count=1) as [port]:
        page = f"http://rebound.example:{port}/"
        visit = await browser.run("atHome", page=page, html=browser.pages.html)
        here = f"http://127.0.0.1:{port}/"
        welcome = await browser.run("atHome", page=here, html=browser.pages.html)
    databases.give_back(url)
    requests = ["GET /mcp", "POST /mcp", "DELETE /mcp", "GET /sse"]
    assert visit.result == dict.fromkeys(requests, 403)
    assert 403 not in welcome.result.values()
