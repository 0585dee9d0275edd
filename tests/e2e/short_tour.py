"""A shorter tour, of the servers in this folder that are not on `MCPServer`."""

from http import HTTPStatus

import mcp_types as types

from examples.guide import Guide
from examples.report import TourReport, expect
from examples.traveller import Traveller

__all__ = ["short_tour"]

MEMO = "memo://latest"
TO = 3


async def short_tour(url: str) -> TourReport:
    """Take it with one traveller, and return the report."""
    async with Guide(url, narrate=print) as guide:
        tour = _ShortTour(guide)
        await guide.step("initialize", tour.arrive(), expected="a session and an open stream")
        await guide.step("lists", tour.lists(), expected="tools, resources and prompts")
        await guide.step("count", tour.count(), expected="progress to the end, and every log message")
        await guide.step("read and prompt", tour.read(), expected="the memo and the greeting")
        await guide.step("subscribe", tour.subscribe(), expected="one update and one list_changed")
        await guide.step("setLevel", tour.set_level(), expected="the warning alone, then all again")
        await guide.step("leave", tour.leave(), expected="DELETE answered, then 404")
    return guide.report


class _ShortTour:
    ann: Traveller

    def __init__(self, guide: Guide) -> None:
        self._guide = guide

    async def arrive(self) -> str:
        self.ann = await self._guide.welcome("Ann")
        await self.ann.until(lambda: self.ann.last("GET"))
        got = self.ann.last("GET")
        expect(got is not None and got.status == HTTPStatus.OK, got)
        await self.ann.ask(types.PingRequest())
        return self.ann.client.protocol_version

    async def lists(self) -> str:
        client = self.ann.client
        names = [tool.name for tool in (await client.list_tools()).tools]
        names += [resource.uri for resource in (await client.list_resources()).resources]
        names += [prompt.name for prompt in (await client.list_prompts()).prompts]
        expect(names == ["count", "touch", MEMO, "greet"], names)
        return ", ".join(names)

    async def count(self) -> str:
        await self._count()
        expect([level for level, _ in self.ann.logs] == ["info"] * TO + ["warning"], self.ann.logs)
        return f"{len(self.ann.progress)} progress notifications, {len(self.ann.logs)} log messages"

    async def _count(self) -> None:
        """Count, and wait until the last message of the call is there."""
        self.ann.logs.clear()
        self.ann.progress.clear()
        result = await self.ann.tool("count", to=TO)
        expect(result.content == [types.TextContent(text=f"counted to {TO}")], result)
        await self.ann.until(lambda: self.ann.logs and self.ann.logs[-1][0] == "warning")
        expect(self.ann.progress == [(number, TO) for number in range(1, TO + 1)], self.ann.progress)

    async def read(self) -> str:
        [content] = (await self.ann.client.read_resource(MEMO)).contents
        expect(isinstance(content, types.TextResourceContents) and content.text == "milk", content)
        [message] = (await self.ann.client.get_prompt("greet", {"name": "Bob"})).messages
        expect(message.content == types.TextContent(text="Say hello to Bob."), message)
        return "milk, and hello"

    async def subscribe(self) -> str:
        await self.ann.ask(types.SubscribeRequest(params=types.SubscribeRequestParams(uri=MEMO)))
        await self.ann.tool("touch")
        await self.ann.until(lambda: self.ann.updates and self.ann.tools_changed)
        expect((self.ann.updates, self.ann.tools_changed) == ([MEMO], 1), self.ann.updates)
        return "told of both"

    async def set_level(self) -> str:
        await self.ann.ask(types.SetLevelRequest(params=types.SetLevelRequestParams(level="warning")))
        await self._count()
        expect([level for level, _ in self.ann.logs] == ["warning"], self.ann.logs)
        await self.ann.ask(types.SetLevelRequest(params=types.SetLevelRequestParams(level="info")))
        await self._count()
        expect(len(self.ann.logs) == TO + 1, self.ann.logs)
        return "info is dropped, and comes back"

    async def leave(self) -> str:
        await self.ann.leave()
        deleted = self.ann.last("DELETE")
        expect(deleted is not None and deleted.status in {HTTPStatus.OK, HTTPStatus.NO_CONTENT}, deleted)
        status = await self._guide.post(self.ann, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        expect(status == HTTPStatus.NOT_FOUND, status)
        return "404"
