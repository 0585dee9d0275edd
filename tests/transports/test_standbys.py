"""Several listeners of one session: one has the stream, the others stand by (rules G4 and G5)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.bare_managers import BareStreams, bare_managers
from tests.support.client import Client
from tests.support.servers import small_server
from tests.support.talkative import Stage, talkative_server
from tmcp_serverless import InMemoryInfoSessionManager, SessionManagers, create_handler
from tmcp_serverless.handshake.get_readers import RequestReader
from tmcp_serverless.handshake.stream_reader import StreamReader
from tmcp_serverless.sessions import streams
from tmcp_serverless.testing.contracts.recording import RecordingController

if TYPE_CHECKING:
    from tests.differential.wire import Exchange
    from tests.support.fixtures import NewHandler, NewManagers


@pytest.fixture
async def clients(new_handler: NewHandler, monkeypatch: pytest.MonkeyPatch) -> list[Client]:
    """One session, by two instances: each client speaks to one of them."""
    monkeypatch.setattr(StreamReader, "look_seconds", 0.05)
    first, second = (Client(new_handler(small_server()).app) for _ in range(2))
    await first.initialize()
    second.session = first.session
    return [first, second]


async def heard(client: Client, *streams: Exchange) -> int:
    """Have the session told something, and return which stream carried it."""
    before = [len(stream.messages) for stream in streams]
    await client.call("change")

    def after() -> list[int]:
        return [len(stream.messages) - number for stream, number in zip(streams, before, strict=True)]

    async with asyncio.timeout(30):
        while not any(after()):
            await asyncio.sleep(0.01)
    assert sorted(after()) == [*[0] * (len(streams) - 1), 1]
    return after().index(1)


async def until_it_has_the_stream(client: Client, stream: Exchange, *others: Exchange) -> None:
    await stream.until(lambda: bool(stream.ids) and "@+" not in stream.ids[-1])
    assert await heard(client, stream, *others) == 0


async def stands_by(stream: Exchange) -> None:
    """Wait until the stream has lost its place, and says so."""
    await stream.until(lambda: "@+" in stream.ids[-1])
    assert not stream.ended


@pytest.mark.parametrize("same_instance", [True, False])
async def test_the_older_stream_stays_open_and_goes_on_when_the_newer_one_has_ended(
    clients: list[Client], *, same_instance: bool
) -> None:
    here, there = clients[0], clients[0 if same_instance else 1]
    async with here.listen() as old:
        await old.until(lambda: bool(old.ids))
        assert await heard(here, old) == 0
        async with there.listen() as new:
            await new.until(lambda: bool(new.ids))
            await stands_by(old)
            for _ in range(3):
                assert await heard(here, old, new) == 1
            comments = old.comments
            await old.until(lambda: old.comments > comments)
            said = len(new.messages)
        await until_it_has_the_stream(here, old)
        assert len(old.messages) == 2, "what the other one had is not sent again"
        assert said == 3


async def test_listeners_that_come_back_from_time_to_time_leave_each_other_in_peace(
    clients: list[Client],
) -> None:
    async with clients[0].listen() as first, clients[1].listen() as second:
        await second.until(lambda: bool(second.ids))
        await stands_by(first)
        opened = len(first.ids), len(second.ids)
        comments = first.comments, second.comments
        await first.until(lambda: first.comments > comments[0] + 3)
        await second.until(lambda: second.comments > comments[1] + 3)
        assert (len(first.ids), len(second.ids)) == opened
        assert not first.ended
        assert not second.ended


async def test_of_several_that_stand_by_one_takes_over(clients: list[Client]) -> None:
    async with AsyncExitStack() as stack:
        waiting: list[Exchange] = []
        for number in range(4):
            stream = await stack.enter_async_context(clients[number % 2].listen())
            await stream.until(lambda stream=stream: bool(stream.ids))
            waiting.append(stream)
        async with clients[0].listen() as last:
            await last.until(lambda: bool(last.ids))
            for stream in waiting:
                await stands_by(stream)
        async with asyncio.timeout(30):
            while all("@+" in stream.ids[-1] for stream in waiting):
                await asyncio.sleep(0.01)
        counted = [0] * 4
        for _ in range(5):
            counted[await heard(clients[0], *waiting)] += 1
        assert sorted(counted) == [0, 0, 0, 5]


async def test_what_stood_by_and_comes_back_is_not_sent_what_another_one_had(clients: list[Client]) -> None:
    here, there = clients
    async with here.listen() as old:
        await old.until(lambda: bool(old.ids))
        async with there.listen() as new:
            await new.until(lambda: bool(new.ids))
            await stands_by(old)
            assert await heard(here, old, new) == 1
            old.leave()
            await old.whole()
            async with here.listen(last_event_id=old.ids[-1]) as again:
                await again.until(lambda: bool(again.ids))
                assert await heard(here, again, new) == 0
                assert len(again.messages) == 1


class Late(RecordingController):
    """A GET whose client has left: its request is served late, by a process that was frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()

    async def opened(self, cursor: str) -> None:
        del cursor
        self.begun.set()
        await asyncio.Event().wait()


async def test_what_stood_by_behind_a_dead_connection_is_not_sent_again_what_it_had(
    clients: list[Client], new_managers: NewManagers
) -> None:
    (client, *_), late, streams = clients, Late(), new_managers().streams
    session = client.session or ""
    async with client.listen() as old:
        await old.until(lambda: bool(old.ids))
        for _ in range(2):
            await heard(client, old)
        await streams.create(session, late, after=old.ids[0].partition("@")[0])
        await stands_by(old)
        async with asyncio.timeout(15):
            await late.begun.wait()
        old.leave()
        await old.whole()
    async with client.listen(last_event_id=old.ids[-1]) as again:
        await again.until(lambda: bool(again.ids))
        assert await heard(client, again) == 0
        assert len(again.messages) == 1


async def test_an_id_beyond_the_stream_skips_nothing(clients: list[Client]) -> None:
    (client, *_) = clients
    async with client.listen(last_event_id="999999999.999999999@+00000000") as stream:
        await stream.until(lambda: bool(stream.ids))
        await heard(client, stream)
        assert len(stream.messages) == 1
    async with client.listen(last_event_id="nonsense@+00000000") as refused:
        assert (await refused.whole()).status == 400


async def test_a_deleted_session_ends_what_has_the_stream_and_what_stands_by(clients: list[Client]) -> None:
    async with clients[0].listen() as old, clients[1].listen() as new:
        await new.until(lambda: bool(new.ids))
        await stands_by(old)
        await clients[1].delete()
        await new.whole()
        await old.whole()
        assert b"retry" not in old.raw + new.raw
    async with clients[0].listen() as gone:
        assert (await gone.whole()).status == 404


async def test_draining_ends_what_stands_by(new_handler: NewHandler) -> None:
    handlers = [new_handler(small_server()) for _ in range(2)]
    here, there = (Client(handler.app) for handler in handlers)
    await here.initialize()
    there.session = here.session
    async with here.listen() as old, there.listen() as new:
        await new.until(lambda: bool(new.ids))
        await stands_by(old)
        await handlers[0].drain()
        await old.whole()
        assert old.raw.endswith(b"retry: 1000\n\n")
        assert await heard(there, new) == 0


async def test_a_requests_stream_that_two_resume_is_answered_on_one_and_ends_on_both(
    new_handler: NewHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RequestReader, "look_seconds", 0.1)
    stage = Stage()
    client = Client(*[new_handler(talkative_server(stage)).app for _ in range(2)])
    await client.initialize()
    params: dict[str, Any] = {"name": "wait", "arguments": {}, "_meta": {"progressToken": 1}}
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    async with client.send("POST", message) as exchange:
        await exchange.count(1)
        last = exchange.ids[-1]
        async with client.listen(last_event_id=last) as old:
            await old.until(lambda: bool(old.ids))
            async with client.listen(last_event_id=last) as new:
                await new.until(lambda: bool(new.ids))
                comments = old.comments
                await old.until(lambda: old.comments > comments)
                assert not old.ended
                stage.go_on.set()
                assert (await new.whole()).messages[-1]["id"] == 7
            assert (await old.whole()).messages == []
        async with client.listen(last_event_id=old.ids[-1]) as again:
            assert (await again.whole()).messages[-1]["result"]["content"][0]["text"] == "done"


async def test_managers_with_the_abstract_methods_alone_have_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_LOOK_SECONDS", 0.05)
    managers = bare_managers()
    handler = create_handler(small_server(), session_manager=managers)
    client = await Client(handler.app).initialize()
    async with client.listen() as old:
        await old.until(lambda: bool(old.ids))
        async with client.listen() as new:
            await new.until(lambda: bool(new.ids))
            await stands_by(old)
            assert await heard(client, old, new) == 1
        await until_it_has_the_stream(client, old)
        async with client.listen() as newest:
            await newest.until(lambda: bool(newest.ids))
            await stands_by(old)
            old.leave()
            await old.whole()
            assert await heard(client, newest) == 0, "what stood by has not ended it"
    await handler.aclose()


async def test_an_open_stream_keeps_its_session_from_expiring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StreamReader, "look_seconds", 0.02)
    info = InMemoryInfoSessionManager(idle_seconds=1.0)
    handler = create_handler(
        small_server(),
        session_manager=SessionManagers(streams=BareStreams(), info=info),
        stream_max_seconds=0.1,
        replay=False,
    )
    client = await Client(handler.app).initialize()
    async with client.listen() as stream:
        await stream.begun()
        comments = stream.comments
        await stream.until(lambda: stream.comments > comments + 100)
        assert not stream.ended
        assert await client.result("ping") == {}
        await info.delete(client.session or "")
        await stream.whole()
    await handler.aclose()
