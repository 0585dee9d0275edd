"""The tour that every reader makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e.cutting import Cutter
from tests.readers.client import ReadingClient

if TYPE_CHECKING:
    from tests.readers.rules import Rules

__all__ = ["tour"]

ROTATIONS = 7
"""More than any reader takes that were in vain."""

UPDATED = "notifications/resources/updated"
PROGRESS = "notifications/progress"


async def tour(url: str, rules: type[Rules]) -> None:
    """See everything that a server shows, the way that the connection ends last."""
    async with Cutter(url) as cutter, ReadingClient(cutter.url, rules) as client:
        assert await client.call("add", a=2, b=3) == "5"
        assert await client.call("report") == "reported"
        assert [said["params"]["progress"] for said in client.told(PROGRESS)] == [1, 2]
        assert client.told(PROGRESS)[0]["params"]["message"] == "one\u2028two\u0085three\nfour"
        assert await client.call("consent") == "sure: True"
        await client.ask("resources/subscribe", {"uri": f"note://{client.name}"})
        await _is_told_of_updates(client)
        assert client.faults == []
        if rules.resumes_posts:
            await _calls_are_resumed(client, cutter)
        if rules.reopens:
            await _idle_streams_are_rotated(client)
            await _is_told_of_updates(client)
            assert client.faults == []
        if rules.reopens_when_cut:
            await _is_cut(client, cutter)
            await _is_told_of_updates(client)
            assert client.faults == []
        if not rules.reopens:
            await client.call("rotate")
        assert await client.call("add", a=2, b=3) == "5"
        assert len(set(client.answers)) == len(client.answers), "no answer came twice"


async def _is_told_of_updates(client: ReadingClient) -> None:
    before = len(client.told(UPDATED))
    assert await client.call("touch", name=client.name) == "touched"
    await client.until(lambda: len(client.told(UPDATED)) > before)
    assert len(client.told(UPDATED)) == before + 1


async def _calls_are_resumed(client: ReadingClient, cutter: Cutter) -> None:
    before = len(client.told(PROGRESS))
    assert await client.call("close") == "closed"
    assert len(client.told(PROGRESS)) == before + 2
    calling = client.start("last", seconds=1.0)
    await client.until(lambda: len(client.told(PROGRESS)) == before + 3)
    opened = client.opened
    await cutter.cut()
    assert await calling == "lasted"
    assert len(client.told(PROGRESS)) == before + 4
    await client.until(lambda: client.opened > opened)


async def _idle_streams_are_rotated(client: ReadingClient) -> None:
    for _ in range(ROTATIONS):
        opened = client.opened
        await client.until_listening()
        assert await client.call("rotate") == "rotated"
        await client.until(lambda opened=opened: client.opened > opened)


async def _is_cut(client: ReadingClient, cutter: Cutter) -> None:
    opened = client.opened
    await client.until_listening()
    await cutter.cut()
    await client.until(lambda: client.opened > opened)
    await client.until_listening()
