"""A client over HTTP that reads as its rules say: one connection for each POST, and one standalone stream."""

from __future__ import annotations

import asyncio
import codecs
import json
from itertools import count
from typing import TYPE_CHECKING, Any, Self

import httpx2

from tests.readers.rules import BrokenError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import TracebackType

    from tests.readers.rules import Rules

__all__ = ["LIMIT_SECONDS", "ReadingClient"]

LIMIT_SECONDS = 60.0
VERSION = "2025-11-25"
_REOPEN_SECONDS = 0.1


class ReadingClient:
    """`async with` it: the session, with its standalone stream open.

    Args:
        url: The MCP endpoint.
        rules: How it reads.

    """

    def __init__(self, url: str, rules: type[Rules]) -> None:
        self.faults: list[str] = []
        """What it could not live with."""

        self.heard: list[dict[str, Any]] = []
        """The notifications and requests that came, on any stream."""

        self.answers: list[Any] = []
        """The ids of the answers that came."""

        self.opened = 0
        """How many standalone streams it has opened."""

        self.name = rules.__name__
        self._url = url
        self._rules = rules
        self._http = httpx2.AsyncClient(timeout=LIMIT_SECONDS)
        self._headers = {"accept": "application/json, text/event-stream"}
        self._ids = count(1)
        self._changed = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        self._stream: Rules | None = None

    async def __aenter__(self) -> Self:
        client = {"name": self.name, "version": "1"}
        said = {"protocolVersion": VERSION, "capabilities": {"elicitation": {}}, "clientInfo": client}
        result = await self.ask("initialize", said)
        assert result["protocolVersion"] == VERSION
        self._headers["mcp-protocol-version"] = VERSION
        await self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        self._listening = asyncio.create_task(self._listen())
        await self.until(lambda: self.opened == 1)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._listening is not None
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        await self._http.request("DELETE", self._url, headers=self._headers)
        await self._http.aclose()

    async def call(self, tool: str, **arguments: Any) -> str:
        """Call a tool, and return its text."""
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": tool}}
        return (await self.ask("tools/call", params))["content"][0]["text"]

    def start(self, tool: str, **arguments: Any) -> asyncio.Task[str]:
        """Call a tool, and go on meanwhile."""
        return asyncio.create_task(self.call(tool, **arguments))

    async def until_listening(self) -> None:
        """Wait until the standalone stream has begun, with an id of its own."""
        await self.until(lambda: self._stream is not None and self._stream.last_id is not None)

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Send a request, and return its result, from whatever connection it comes on."""
        id = next(self._ids)
        async with asyncio.timeout(LIMIT_SECONDS):
            answer = await self._post({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
        assert answer is not None, f"{method} was not answered: {self.faults}"
        assert "result" in answer, answer
        return answer["result"]

    async def until(self, condition: Any) -> None:
        """Wait until something is true of what was heard."""
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name} waits in vain; it could not live with {self.faults}") from None

    def told(self, method: str) -> list[dict[str, Any]]:
        """Return the messages of this method that came."""
        return [message for message in self.heard if message.get("method") == method]

    async def _post(self, message: dict[str, Any]) -> Any:
        rules = self._rules()
        answer = None
        try:
            async with self._http.stream("POST", self._url, json=message, headers=self._headers) as response:
                assert response.status_code < 300, (response.status_code, await response.aread())
                if "mcp-session-id" in response.headers:
                    self._headers["mcp-session-id"] = response.headers["mcp-session-id"]
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    body = await response.aread()
                    return json.loads(body) if response.status_code == 200 else None
                answer = await self._read(response, rules, message["id"])
        except httpx2.TransportError:
            pass
        if answer is None and rules.resumes_posts:
            return await self._resume(rules.last_id, message["id"])
        return answer

    async def _resume(self, last_id: str | None, id: Any) -> Any:
        ended = 0
        while last_id is not None:
            await asyncio.sleep(_REOPEN_SECONDS)
            rules = self._rules()
            answer = await self._get(rules, last_id, id)
            if answer is not None:
                return answer
            ended = rules.progress(last_id, rules.last_id, ended)
            last_id = rules.last_id
        return None

    async def _listen(self) -> None:
        before: str | None = None
        now: str | None = None
        ended = 0
        while True:
            rules = self._stream = self._rules()
            self.opened += 1
            self._changed.set()
            try:
                await self._get(rules, now, None)
                goes_on = rules.reopens
                ended = rules.progress(before, rules.last_id, ended)
            except httpx2.TransportError:
                goes_on = rules.reopens_when_cut
            except BrokenError as broken:
                self.faults.append(str(broken))
                goes_on = False
            self._changed.set()
            if not goes_on:
                return
            before, now = rules.last_id or before, rules.last_id
            await asyncio.sleep(_REOPEN_SECONDS)

    async def _get(self, rules: Rules, last_id: str | None, id: Any) -> Any:
        headers = {**self._headers, "accept": "text/event-stream"}
        if last_id:
            headers["last-event-id"] = last_id
        async with self._http.stream("GET", self._url, headers=headers) as response:
            assert response.status_code == 200, (response.status_code, await response.aread())
            self._changed.set()
            return await self._read(response, rules, id)

    async def _read(self, response: httpx2.Response, rules: Rules, id: Any) -> Any:
        async for line in _lines(response):
            event = rules.line(line)
            message = None if event is None else rules.message(event)
            self._changed.set()
            if message is None:
                continue
            if "method" not in message:
                self.answers.append(message["id"])
                if message["id"] == id:
                    return message
            else:
                await self._hear(message)
        return None

    async def _hear(self, message: dict[str, Any]) -> None:
        self.heard.append(message)
        self._changed.set()
        if message["method"] == "elicitation/create":
            result = {"action": "accept", "content": {"sure": True}}
            await self._post({"jsonrpc": "2.0", "id": message["id"], "result": result})
        elif message["method"] == "ping":
            await self._post({"jsonrpc": "2.0", "id": message["id"], "result": {}})


async def _lines(response: httpx2.Response) -> AsyncGenerator[str]:
    decoder, rest = codecs.getincrementaldecoder("utf-8")(), ""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + decoder.decode(chunk)).split("\n")
        for line in lines:
            yield line
