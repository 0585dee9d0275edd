"""The contracts as tests: run them on session managers of your own.

Subclass a suite, give it a fixture `new_manager` that returns a function, and let pytest collect it. Each
call of that function returns another instance over the same store, as another process would have it; a
manager that lives in one process returns the same object every time. The tests need the anyio plugin of
pytest, on asyncio.

    class TestMyStreams(StreamSessionManagerContract):
        @pytest.fixture
        def new_manager(self):
            return lambda: MyStreams(...)
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tmcp_serverless.sessions.contracts import StreamSessionManager
from tmcp_serverless.sessions.ids import private_mailbox
from tmcp_serverless.sessions.records import CloseReason, SessionRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tmcp_serverless.sessions.contracts import InfoSessionManager
    from tmcp_serverless.sessions.records import StoredEvent

__all__ = ["InfoSessionManagerContract", "RecordingController", "StreamSessionManagerContract"]

_LIMIT_SECONDS = 15.0

_AWKWARD = [
    "it's",
    '"quoted"',
    "back\\slash",
    "line\nbreak",
    "%s $1 :name ?",
    "'; DROP TABLE tmcp_sessions; --",
    "żółć 🦆 \u2028",
    "",
    '{"jsonrpc":"2.0","method":"x","params":{"text":"\\u0000"}}',
]


class RecordingController:
    """A stream's controller that keeps what it is given, and fails when the contract is broken."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self.start: str | None = None
        self.closed: CloseReason | None = None
        self.missing = 0
        self._changed = asyncio.Event()

    async def opened(self, cursor: str) -> None:
        """Keep where the stream started."""
        assert self.start is None, "opened twice"
        assert not self.events, "opened after events"
        self.start = cursor

    async def write(self, events: Sequence[StoredEvent]) -> None:
        """Keep the events."""
        assert self.closed is None, "written to after it was closed"
        self.events += events
        self._changed.set()

    async def missed(self, count: int) -> None:
        """Count what expired."""
        self.missing += count
        self._changed.set()

    def close(self, reason: CloseReason) -> None:
        """Keep the reason."""
        assert self.closed is None, "closed twice"
        self.closed = reason
        self._changed.set()

    @property
    def data(self) -> list[str]:
        """The messages so far."""
        return [event.data for event in self.events]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is true, for 15 seconds at the most."""
        async with asyncio.timeout(_LIMIT_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def count(self, number: int) -> list[str]:
        """Wait for so many messages, and return all that came."""
        await self.until(lambda: len(self.events) >= number)
        return self.data

    async def end(self) -> CloseReason:
        """Wait for the end, and return its reason."""
        await self.until(lambda: self.closed is not None)
        assert self.closed is not None
        return self.closed


def _needs(manager: StreamSessionManager, *optional: str) -> None:
    """Skip what tests an optional method that the manager leaves at its default."""
    for name in optional:
        if getattr(type(manager), name) is getattr(StreamSessionManager, name):
            pytest.skip(f"optional: {type(manager).__name__} has no {name} of its own")


def _new_id() -> str:
    return secrets.token_hex(16)


@pytest.mark.anyio
class StreamSessionManagerContract:
    """What every `StreamSessionManager` does."""

    @pytest.fixture
    def new_manager(self) -> Callable[[], StreamSessionManager]:
        raise NotImplementedError("return a function that makes another instance over the same store")

    @pytest.mark.parametrize("text", _AWKWARD)
    async def test_what_is_sent_arrives_whatever_its_characters(self, new_manager: Any, text: str) -> None:
        id, controller = _new_id(), RecordingController()
        await new_manager().create(id, controller)
        await new_manager().send([id], text)
        assert await controller.count(1) == [text]

    @pytest.mark.parametrize("size", [7_999, 8_000, 1_000_000, 4_000_000])
    async def test_a_large_message_arrives_whole(self, new_manager: Any, size: int) -> None:
        id, controller = _new_id(), RecordingController()
        await new_manager().create(id, controller)
        await new_manager().send([id], "é" * (size // 2))
        assert await controller.count(1) == ["é" * (size // 2)]

    async def test_messages_arrive_in_order_and_once(self, new_manager: Any) -> None:
        id, controller = _new_id(), RecordingController()
        sender = new_manager()
        await new_manager().create(id, controller)
        for number in range(200):
            await sender.send([id], str(number))
        assert await controller.count(200) == [str(number) for number in range(200)]

    async def test_every_one_of_several_senders_at_once_is_heard(self, new_manager: Any) -> None:
        id, controller = _new_id(), RecordingController()
        await new_manager().create(id, controller)

        async def send_from(name: str) -> None:
            sender = new_manager()
            for number in range(50):
                await sender.send([id], f"{name} {number}")

        await asyncio.gather(*(send_from(name) for name in "abcdefgh"))
        data = await controller.count(400)
        assert len(data) == 400
        for name in "abcdefgh":
            assert [text for text in data if text[0] == name] == [f"{name} {number}" for number in range(50)]

    async def test_many_messages_that_were_sent_before_the_stream_are_all_delivered(
        self, new_manager: Any
    ) -> None:
        id, controller, manager = _new_id(), RecordingController(), new_manager()
        for number in range(200):
            await manager.send([id], str(number))
        await new_manager().create(id, controller)
        assert await controller.count(200) == [str(number) for number in range(200)]
        assert controller.missing == 0

    async def test_what_was_sent_before_the_stream_is_delivered_to_it(self, new_manager: Any) -> None:
        id, controller = _new_id(), RecordingController()
        await new_manager().send([id], "early")
        await new_manager().create(id, controller)
        assert await controller.count(1) == ["early"]

    async def test_nothing_is_lost_once_has_says_that_there_is_a_stream(self, new_manager: Any) -> None:
        id, controller, sender = _new_id(), RecordingController(), new_manager()
        opening = asyncio.ensure_future(new_manager().create(id, controller))
        async with asyncio.timeout(_LIMIT_SECONDS):
            while not await sender.has(id):
                await asyncio.sleep(0)
        for number in range(100):
            await sender.send([id], str(number))
        await opening
        assert await controller.count(100) == [str(number) for number in range(100)]

    async def test_a_message_reaches_the_given_sessions_and_no_other(self, new_manager: Any) -> None:
        ids = [_new_id() for _ in range(3)]
        controllers = [RecordingController() for _ in ids]
        for id, controller in zip(ids, controllers, strict=True):
            await new_manager().create(id, controller)
        sender = new_manager()
        await sender.send(ids[:2], "for two")
        await sender.send([], "for nobody")
        await sender.send([ids[0], ids[0]], "for one, once")
        await sender.send(ids, "last")
        assert await controllers[0].count(3) == ["for two", "for one, once", "last"]
        assert await controllers[1].count(2) == ["for two", "last"]
        assert await controllers[2].count(1) == ["last"]

    async def test_a_broadcast_reaches_every_session_once(self, new_manager: Any) -> None:
        controllers = {_new_id(): RecordingController() for _ in range(5)}
        for id, controller in controllers.items():
            await new_manager().create(id, controller)
        await new_manager().send(None, "all")
        await new_manager().send(list(controllers), "last")
        for controller in controllers.values():
            assert sorted(await controller.count(2)) == ["all", "last"]

    async def test_a_broadcast_does_not_reach_a_private_mailbox(self, new_manager: Any) -> None:
        address, controller = private_mailbox(_new_id(), "inbox"), RecordingController()
        await new_manager().create(address, controller)
        await new_manager().send(None, "all")
        await new_manager().send([address], "mine")
        assert await controller.count(1) == ["mine"]

    async def test_a_prepared_session_gets_what_was_broadcast_while_it_had_no_stream(
        self, new_manager: Any
    ) -> None:
        _needs(new_manager(), "prepare")
        id, controller = _new_id(), RecordingController()
        await new_manager().send(None, "before it began")
        await new_manager().prepare(id)
        await new_manager().send(None, "while away")
        await new_manager().create(id, controller)
        assert await controller.count(1) == ["while away"]

    async def test_a_stream_that_was_released_goes_on_where_it_was(self, new_manager: Any) -> None:
        _needs(new_manager(), "release")
        id, first, second = _new_id(), RecordingController(), RecordingController()
        manager = new_manager()
        await manager.create(id, first)
        await manager.send([id], "1")
        await first.count(1)
        await manager.release(id, first)
        assert not await manager.has(id)
        await new_manager().send([id], "2")
        await new_manager().send(None, "all")
        await new_manager().create(id, second)
        assert sorted(await second.count(2)) == ["2", "all"]
        assert first.data == ["1"]

    async def test_a_cursor_continues_right_behind_its_message(self, new_manager: Any) -> None:
        id, first, second = _new_id(), RecordingController(), RecordingController()
        manager = new_manager()
        await manager.create(id, first)
        for text in "abcd":
            await manager.send([id], text)
        await first.count(4)
        await new_manager().create(id, second, after=first.events[1].cursor)
        assert await second.count(2) == ["c", "d"]

    async def test_where_a_stream_starts_can_be_continued_behind(self, new_manager: Any) -> None:
        id, first, second = _new_id(), RecordingController(), RecordingController()
        await new_manager().send([id], "early")
        await new_manager().create(id, first)
        await new_manager().send([id], "late")
        await first.count(2)
        if first.start is not None:
            await new_manager().create(id, second, after=first.start)
            assert await second.count(2) == ["early", "late"]

    async def test_cursors_are_unique_and_fit_for_an_event_id(self, new_manager: Any) -> None:
        id, controller = _new_id(), RecordingController()
        manager = new_manager()
        await manager.create(id, controller)
        for number in range(5):
            await manager.send([id], str(number))
            await manager.send(None, str(number))
        await controller.count(10)
        cursors = [event.cursor for event in controller.events]
        assert len(set(cursors)) == 10
        assert all(
            1 <= len(cursor) <= 64 and cursor.replace("-", "").replace(".", "").replace("_", "").isalnum()
            for cursor in cursors
        )

    async def test_a_second_stream_takes_over_at_once_and_no_event_is_on_both(self, new_manager: Any) -> None:
        id, first, second = _new_id(), RecordingController(), RecordingController()
        sender = new_manager()
        await new_manager().create(id, first)
        await sender.send([id], "1")
        await first.count(1)
        await new_manager().create(id, second)
        await sender.send([id], "2")
        assert await second.count(1) == ["2"]
        assert await first.end() is CloseReason.SUPERSEDED
        assert first.data == ["1"]

    async def test_a_take_over_under_load_loses_and_doubles_nothing(self, new_manager: Any) -> None:
        id, controllers = _new_id(), [RecordingController() for _ in range(6)]
        sender = new_manager()

        async def send_all() -> None:
            for number in range(300):
                await sender.send([id], str(number))

        sending = asyncio.ensure_future(send_all())
        for controller in controllers:
            await new_manager().create(id, controller)
            await asyncio.sleep(0.01)
        await sending
        wanted = [str(number) for number in range(300)]
        async with asyncio.timeout(_LIMIT_SECONDS):
            while sum(len(controller.events) for controller in controllers) < 300:
                await asyncio.sleep(0.01)
        assert [text for controller in controllers for text in controller.data] == wanted
        for controller in controllers[:-1]:
            assert await controller.end() is CloseReason.SUPERSEDED

    async def test_of_two_streams_at_once_one_stays(self, new_manager: Any) -> None:
        id, controllers = _new_id(), [RecordingController(), RecordingController()]
        await asyncio.gather(*(new_manager().create(id, controller) for controller in controllers))
        for number in range(20):
            await new_manager().send([id], str(number))
        async with asyncio.timeout(_LIMIT_SECONDS):
            while sum(len(controller.events) for controller in controllers) < 20:
                await asyncio.sleep(0.01)
        everything = [text for controller in controllers for text in controller.data]
        assert sorted(everything, key=int) == [str(number) for number in range(20)]
        async with asyncio.timeout(_LIMIT_SECONDS):
            while [controller.closed for controller in controllers].count(None) != 1:
                await asyncio.sleep(0.01)

    async def test_releasing_a_stream_that_was_taken_over_leaves_the_new_one(self, new_manager: Any) -> None:
        _needs(new_manager(), "release")
        id, first, second = _new_id(), RecordingController(), RecordingController()
        manager = new_manager()
        await manager.create(id, first)
        await new_manager().create(id, second)
        await manager.release(id, first)
        assert await manager.has(id)
        await manager.send([id], "x")
        assert await second.count(1) == ["x"]

    async def test_interrupt_ends_the_stream_and_forgets_nothing(self, new_manager: Any) -> None:
        _needs(new_manager(), "interrupt")
        id, first, second = _new_id(), RecordingController(), RecordingController()
        await new_manager().create(id, first)
        await new_manager().send([id], "1")
        await first.count(1)
        await new_manager().interrupt(id)
        assert await first.end() is CloseReason.INTERRUPTED
        await new_manager().send([id], "2")
        await new_manager().create(id, second)
        assert await second.count(1) == ["2"]

    async def test_appended_messages_are_read_after_their_cursors(self, new_manager: Any) -> None:
        address, controller = private_mailbox(_new_id(), "out"), RecordingController()
        manager = new_manager()
        cursors = [await manager.append(address, text) for text in "abc"]
        if cursors == [None] * 3:
            return
        await new_manager().create(address, controller, after=cursors[0])
        assert await controller.count(2) == ["b", "c"]
        assert [event.cursor for event in controller.events] == cursors[1:]

    async def test_what_is_delivered_reaches_a_mailbox_that_exists(self, new_manager: Any) -> None:
        address, controller = private_mailbox(_new_id(), "in"), RecordingController()
        await new_manager().create(address, controller)
        assert await new_manager().deliver(address, "x")
        assert await controller.count(1) == ["x"]

    async def test_delete_ends_the_stream_wherever_it_is(self, new_manager: Any) -> None:
        id, controller = _new_id(), RecordingController()
        await new_manager().create(id, controller)
        other = new_manager()
        await other.delete(id)
        await other.delete(id)
        assert await controller.end() is CloseReason.DELETED
        assert not await other.has(id)

    async def test_delete_leaves_other_sessions_alone(self, new_manager: Any) -> None:
        id, neighbour = _new_id(), _new_id()
        controller = RecordingController()
        manager = new_manager()
        await manager.create(neighbour, controller)
        await manager.send([id], "x")
        await manager.delete(id)
        await manager.delete("")
        await manager.send([neighbour], "y")
        assert await controller.count(1) == ["y"]

    async def test_delete_takes_the_private_mailboxes_along(self, new_manager: Any) -> None:
        id, controller, later = _new_id(), RecordingController(), RecordingController()
        address = private_mailbox(id, "inbox")
        manager = new_manager()
        await manager.create(address, controller)
        await new_manager().delete(id)
        assert await controller.end() is CloseReason.DELETED
        await manager.send([address], "new")
        await manager.create(address, later)
        assert await later.count(1) == ["new"]

    async def test_has_is_false_for_what_never_was(self, new_manager: Any) -> None:
        assert not await new_manager().has(_new_id())

    async def test_long_ids_with_the_same_beginning_are_told_apart(self, new_manager: Any) -> None:
        first, second = "s" * 300 + "1", "s" * 300 + "2"
        controllers = [RecordingController(), RecordingController()]
        await new_manager().create(first, controllers[0])
        await new_manager().create(second, controllers[1])
        await new_manager().send([first], "for the first")
        await new_manager().send([second], "for the second")
        assert await controllers[0].count(1) == ["for the first"]
        assert await controllers[1].count(1) == ["for the second"]

    async def test_an_id_is_never_more_than_a_value(self, new_manager: Any) -> None:
        id, controller = "'; DROP TABLE tmcp_sessions; --", RecordingController()
        await new_manager().create(id, controller)
        await new_manager().send([id], "x")
        assert await controller.count(1) == ["x"]
        await new_manager().delete(id)
        assert await controller.end() is CloseReason.DELETED

    async def test_a_message_that_arrives_while_the_stream_is_released_harms_nobody(
        self, new_manager: Any
    ) -> None:
        _needs(new_manager(), "release")
        id, sender = _new_id(), new_manager()
        sent = 0
        received: list[str] = []
        for _ in range(20):
            controller, manager = RecordingController(), new_manager()
            await manager.create(id, controller)
            sends = [sender.send([id], str(sent + number)) for number in range(3)]
            await asyncio.gather(manager.release(id, controller), *sends)
            sent += 3
            received += controller.data
        last = RecordingController()
        await new_manager().create(id, last)
        await last.until(lambda: len(received) + len(last.events) >= sent)
        assert sorted([*received, *last.data], key=int) == [str(number) for number in range(sent)]


@pytest.mark.anyio
class InfoSessionManagerContract:
    """What every `InfoSessionManager` does."""

    record = SessionRecord(
        protocol_version="2025-11-25",
        client_info={"name": "it's", "version": "1", "title": 'a "client"'},
        client_capabilities={"roots": {"listChanged": True}, "experimental": {"ż": {}}},
    )

    @pytest.fixture
    def new_manager(self) -> Callable[[], InfoSessionManager]:
        raise NotImplementedError("return a function that makes another instance over the same store")

    async def test_getters_say_that_there_is_nothing(self, new_manager: Any) -> None:
        manager, id = new_manager(), _new_id()
        assert await manager.get_client_info(id) is None
        assert await manager.get_client_capabilities(id) is None
        assert await manager.get_log_level(id) is None
        assert await manager.get_subscriptions("x://y") == set()
        assert await manager.load(id) is None

    async def test_a_value_that_was_set_is_found_by_another_instance(self, new_manager: Any) -> None:
        manager, other, id = new_manager(), new_manager(), _new_id()
        await manager.set_client_info(id, {"name": "a"})
        await manager.set_client_info(id, {"name": "b"})
        await manager.set_client_capabilities(id, {"sampling": {}})
        await manager.set_log_level(id, "info")
        await manager.set_log_level(id, "error")
        assert await other.get_client_info(id) == {"name": "b"}
        assert await other.get_client_capabilities(id) == {"sampling": {}}
        assert await other.get_log_level(id) == "error"

    async def test_an_initialized_session_is_loaded_whole(self, new_manager: Any) -> None:
        id = _new_id()
        await new_manager().initialize(id, self.record)
        loaded = await new_manager().load(id)
        assert loaded == self.record
        assert await new_manager().get_client_capabilities(id) == self.record.client_capabilities

    async def test_a_loaded_session_knows_what_was_set_since(self, new_manager: Any) -> None:
        id, manager = _new_id(), new_manager()
        await manager.initialize(id, self.record)
        await manager.set_log_level(id, "warning")
        await manager.set_client_capabilities(id, {"sampling": {}})
        await manager.mark_initialized(id)
        await manager.mark_initialized(id)
        loaded = await new_manager().load(id)
        assert loaded is not None
        assert loaded.log_level == "warning"
        assert loaded.client_capabilities == {"sampling": {}}
        assert loaded.client_info == self.record.client_info
        assert loaded.initialized

    async def test_a_session_is_found_by_its_principal_only(self, new_manager: Any) -> None:
        id, manager = _new_id(), new_manager()
        record = SessionRecord("2025-06-18", {"name": "c", "version": "1"}, {}, principal='["iss","me",null]')
        await manager.initialize(id, record)
        assert await manager.load(id) is None
        assert await manager.load(id, principal="somebody else") is None
        assert await manager.load(id, principal=record.principal) == record

    async def test_a_session_has_any_number_of_subscriptions(self, new_manager: Any) -> None:
        first, second, manager = _new_id(), _new_id(), new_manager()
        for number in range(10):
            await manager.add_subscription(first, f"x://{number}")
        await manager.add_subscription(first, "x://3")
        await manager.add_subscription(second, "x://3")
        assert await new_manager().get_subscriptions("x://3") == {first, second}
        assert await new_manager().get_subscriptions("x://4") == {first}
        await manager.remove_subscription(first, "x://3")
        await manager.remove_subscription(first, "x://3")
        assert await new_manager().get_subscriptions("x://3") == {second}

    async def test_delete_removes_the_session_and_nothing_of_another(self, new_manager: Any) -> None:
        gone, kept, manager = _new_id(), _new_id(), new_manager()
        for id in (gone, kept):
            await manager.initialize(id, self.record)
            await manager.set_log_level(id, "info")
            await manager.add_subscription(id, "x://y")
        await manager.delete(gone)
        await manager.delete(gone)
        other = new_manager()
        assert await other.load(gone) is None
        assert await other.get_client_info(gone) is None
        assert await other.get_client_capabilities(gone) is None
        assert await other.get_log_level(gone) is None
        assert await other.get_subscriptions("x://y") == {kept}
        loaded = await other.load(kept)
        assert loaded is not None
        assert loaded.log_level == "info"

    async def test_awkward_text_is_only_ever_a_value(self, new_manager: Any) -> None:
        manager, id = new_manager(), _new_id()
        for text in _AWKWARD:
            await manager.set_client_info(id, {"name": text})
            assert await manager.get_client_info(id) == {"name": text}
            await manager.add_subscription(id, text)
            assert await manager.get_subscriptions(text) == {id}
        assert await manager.load("'; DROP TABLE tmcp_session_context; --") is None
