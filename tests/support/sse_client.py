"""A client of HTTP+SSE by hand: one stream on one instance, and posts to all of them in turns."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Self

from tests.support.client import Client, initialize_params

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from tests.differential.wire import Exchange
    from tmcp_serverless.http import ASGIApp

OLDEST = "2024-11-05"


def text_of(answer: dict[str, Any]) -> str:
    """Return the text that a tool answered."""
    return answer["result"]["content"][0]["text"]


class SseClient(Client):
    """`async with` it: that is how long its stream, and so its session, lasts."""

    stream: Exchange

    def __init__(
        self,
        *apps: ASGIApp,
        version: str = OLDEST,
        scope: Mapping[str, Any] | None = None,
        path: str = "/sse",
    ) -> None:
        super().__init__(*apps, version=version, scope=scope)
        self.path = path
        self._request_ids = count(1)

    async def __aenter__(self) -> Self:
        self.stream = await self.send("GET", accept="text/event-stream").__aenter__()
        await self.stream.until(lambda: self.stream.endpoint is not None)
        assert self.stream.status == 200, self.stream.messages
        assert self.stream.endpoint is not None
        self.path = self.stream.endpoint
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stream.__aexit__(kind, error, trace)

    @property
    def id(self) -> str:
        """The session's id."""
        return self.path.partition("session_id=")[2]

    async def initialize(self, *, capabilities: dict[str, Any] | None = None) -> Self:
        said = {"protocolVersion": self.version, "capabilities": capabilities or {}}
        result = await self.result("initialize", initialize_params(**said))
        self.version = result["protocolVersion"]
        assert (await self.notify("notifications/initialized")).status == 202
        return self

    async def result(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """Send a request, and return its result, which comes on the stream."""
        answer = await self.answer(method, params)
        assert "result" in answer, answer
        return answer["result"]

    async def answer(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request, and return its answer."""
        id = f"q{next(self._request_ids)}"
        async with self.request(method, params, id=id) as posted:
            await posted.until(lambda: posted.body_ended)
            assert (posted.status, posted.text) == (202, "Accepted"), posted.messages
            return await self.answered(id)

    def request(self, method: str, params: dict[str, Any] | None = None, *, id: Any) -> Exchange:
        """Post a request; `async with` it, for it lasts as long as its handler."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": id, "method": method}
        if params is not None:
            message["params"] = params
        return self.send("POST", message)

    async def answered(self, id: Any) -> dict[str, Any]:
        """Wait for the answer to a request."""
        [found] = await self.heard(lambda message: message.get("id") == id and "method" not in message)
        return found

    def calling(self, tool: str, *, id: Any = 7, **arguments: Any) -> Exchange:
        """Post the call of a tool, whose progress has the token "p"; `async with` it."""
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": "p"}}
        return self.request("tools/call", params, id=id)

    async def asked(self, *, number: int = 1) -> list[dict[str, Any]]:
        """Wait for so many questions, and return them."""
        return await self.heard(lambda message: "method" in message and "id" in message, number=number)

    async def respond(self, question: dict[str, Any], result: dict[str, Any]) -> None:
        """Post the answer to a question."""
        posted = await self.post({"jsonrpc": "2.0", "id": question["id"], "result": result})
        assert (posted.status, posted.text) == (202, "Accepted")

    @property
    def methods(self) -> list[str]:
        """The methods of what the server has said by itself, in order."""
        return [message["method"] for message in self.stream.messages if "method" in message]

    async def told(self, method: str, *, number: int = 1) -> list[dict[str, Any]]:
        """Wait until so many notifications or questions of this method are on the stream."""
        return await self.heard(lambda message: message.get("method") == method, number=number)

    async def heard(
        self, wanted: Callable[[dict[str, Any]], bool], *, number: int = 1
    ) -> list[dict[str, Any]]:
        """Wait until so many such messages are on the stream, and return them."""

        def found() -> list[dict[str, Any]]:
            return [message for message in self.stream.messages if wanted(message)]

        await self.stream.until(lambda: len(found()) >= number)
        assert len(found()) >= number, f"the stream ended with {self.stream.messages}"
        return found()
