"""Tests of a stream's owner: taking over, releasing, deleting."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tmcp_serverless.errors import InvalidCursorError
from tmcp_serverless.sessions import CloseReason, NotWrittenError
from tmcp_serverless.sessions.addresses import listen_lease, private_mailbox
from tmcp_serverless.testing.contracts.common import LIMIT_SECONDS, needs, new_id
from tmcp_serverless.testing.contracts.recording import RecordingController

__all__ = ["OwnershipContract"]


class _Gone(RecordingController):
    """A controller with a client that has left."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = asyncio.Event()

    async def write(self, events: Any) -> None:
        del events
        self.refused.set()
        raise NotWrittenError


class _Late(RecordingController):
    """A controller that never comes to read."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()

    async def opened(self, cursor: str) -> None:
        del cursor
        self.begun.set()
        await asyncio.Event().wait()


class OwnershipContract:
    """Tests of a `StreamSessionManager`'s streams; a part of `StreamSessionManagerContract`."""

    async def test_live_streams_are_counted_up_to_a_bound(self, new_manager: Any) -> None:
        streams, counting = new_manager(), new_manager()
        needs(streams, "count_open")
        before = await counting.count_open(at_most=1_000)
        ids, listening = [new_id() for _ in range(3)], listen_lease(new_id())
        controllers = {id: RecordingController() for id in (*ids, listening)}
        for id, controller in controllers.items():
            await streams.create(id, controller)
        # An inbox or a journal is no stream that holds an instance.
        await streams.create(private_mailbox(ids[0], "in.x"), RecordingController())
        assert await counting.count_open(at_most=1_000) == before + 4
        assert await counting.count_open(at_most=1_000, besides=ids[0]) == before + 3
        assert await counting.count_open(at_most=2) == 2
        await streams.release(ids[1], controllers[ids[1]])
        await streams.delete(ids[2])
        await streams.delete(listening)
        assert await counting.count_open(at_most=1_000) == before + 1

    async def test_a_second_stream_takes_over_at_once_and_no_event_is_on_both(self, new_manager: Any) -> None:
        id, first, second = new_id(), RecordingController(), RecordingController()
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
        id, controllers = new_id(), [RecordingController() for _ in range(6)]
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
        async with asyncio.timeout(LIMIT_SECONDS):
            while sum(len(controller.events) for controller in controllers) < 300:
                await asyncio.sleep(0.01)
        assert [text for controller in controllers for text in controller.data] == wanted
        for controller in controllers[:-1]:
            assert await controller.end() is CloseReason.SUPERSEDED

    async def test_of_two_streams_at_once_one_stays(self, new_manager: Any) -> None:
        id, controllers = new_id(), [RecordingController(), RecordingController()]
        await asyncio.gather(*(new_manager().create(id, controller) for controller in controllers))
        for number in range(20):
            await new_manager().send([id], str(number))
        async with asyncio.timeout(LIMIT_SECONDS):
            while sum(len(controller.events) for controller in controllers) < 20:
                await asyncio.sleep(0.01)
        everything = [text for controller in controllers for text in controller.data]
        assert sorted(everything, key=int) == [str(number) for number in range(20)]
        async with asyncio.timeout(LIMIT_SECONDS):
            while [controller.closed for controller in controllers].count(None) != 1:
                await asyncio.sleep(0.01)

    async def test_releasing_a_stream_that_was_taken_over_leaves_the_new_one(self, new_manager: Any) -> None:
        needs(new_manager(), "release")
        id, first, second = new_id(), RecordingController(), RecordingController()
        manager = new_manager()
        await manager.create(id, first)
        await new_manager().create(id, second)
        await manager.release(id, first)
        assert await manager.has(id)
        await manager.send([id], "x")
        assert await second.count(1) == ["x"]

    async def test_a_stream_that_stands_by_goes_on_where_the_holder_stopped(self, new_manager: Any) -> None:
        needs(new_manager(), "release", "stand_by")
        id, holder, waiting = new_id(), RecordingController(), RecordingController()
        manager, other = new_manager(), new_manager()
        await manager.create(id, holder)
        standing_by = asyncio.create_task(other.stand_by(id, waiting))
        await manager.send([id], "1")
        assert await holder.count(1) == ["1"]
        assert not standing_by.done()
        assert waiting.start is None
        await manager.release(id, holder)
        async with asyncio.timeout(LIMIT_SECONDS):
            await standing_by
        await manager.send([id], "2")
        assert await waiting.count(1) == ["2"]
        assert holder.data == ["1"]

    async def test_of_several_streams_that_stand_by_one_stays(self, new_manager: Any) -> None:
        needs(new_manager(), "release", "stand_by")
        id, holder, waiting = new_id(), RecordingController(), [RecordingController() for _ in range(4)]
        managers = [new_manager(), new_manager()]
        await managers[0].create(id, holder)
        tasks = [
            asyncio.create_task(managers[number % 2].stand_by(id, controller))
            for number, controller in enumerate(waiting)
        ]
        await managers[0].release(id, holder)

        def reading() -> list[RecordingController]:
            return [each for each in waiting if each.start is not None and each.closed is None]

        async with asyncio.timeout(LIMIT_SECONDS):
            while len(reading()) != 1:
                await asyncio.sleep(0.01)
        for number in range(10):
            await managers[1].send([id], str(number))
        await reading()[0].until(lambda: len(reading()[0].events) == 10)
        assert sum(len(each.events) for each in waiting) == 10
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def test_a_stream_that_stands_by_and_leaves_has_claimed_nothing(self, new_manager: Any) -> None:
        needs(new_manager(), "release", "stand_by")
        id, holder, waiting = new_id(), RecordingController(), RecordingController()
        manager = new_manager()
        await manager.create(id, holder)
        standing_by = asyncio.create_task(manager.stand_by(id, waiting))
        await asyncio.sleep(0)
        standing_by.cancel()
        await asyncio.gather(standing_by, return_exceptions=True)
        await manager.release(id, holder)
        assert not await manager.has(id)
        assert waiting.start is None

    async def test_a_stream_that_stands_by_is_not_given_again_the_events_that_it_has_had(
        self, new_manager: Any
    ) -> None:
        """Another one may begin further back, and leave without having written anything."""
        needs(new_manager(), "release", "stand_by")
        id, first, gone, again = new_id(), RecordingController(), _Gone(), RecordingController()
        manager, other = new_manager(), new_manager()
        await manager.create(id, first)
        await other.send([id], "1")
        await other.send([id], "2")
        await first.count(2)
        await other.create(id, gone, after=first.start)
        async with asyncio.timeout(LIMIT_SECONDS):
            await gone.refused.wait()
        assert await first.end() is CloseReason.SUPERSEDED
        standing_by = asyncio.create_task(manager.stand_by(id, again, after=first.events[-1].cursor))
        await other.release(id, gone)
        async with asyncio.timeout(LIMIT_SECONDS):
            await standing_by
        await other.send([id], "3")
        assert await again.count(1) == ["3"]

    async def test_a_stream_that_is_taken_over_at_once_continues_behind_both_cursors(
        self, new_manager: Any
    ) -> None:
        needs(new_manager(), "release", "stand_by")
        id, first, late, again = new_id(), RecordingController(), _Late(), RecordingController()
        manager, other = new_manager(), new_manager()
        await manager.create(id, first)
        await other.send([id], "1")
        await other.send([id], "2")
        await first.count(2)
        await other.create(id, late, after=first.start)
        async with asyncio.timeout(LIMIT_SECONDS):
            await late.begun.wait()
            await manager.stand_by(id, again, after=first.events[0].cursor, at_once=True)
        await other.send([id], "3")
        assert await again.count(2) == ["2", "3"]

    async def test_a_stream_that_claims_behind_a_cursor_of_the_future_misses_nothing(
        self, new_manager: Any
    ) -> None:
        needs(new_manager(), "release", "stand_by")
        id, first, again = new_id(), RecordingController(), RecordingController()
        manager = new_manager()
        await manager.create(id, first)
        await manager.send([id], "1")
        await first.count(1)
        future = re.sub(r"\d+", lambda number: f"{int(number[0]) + 1_000_000}", first.events[0].cursor)
        try:
            await manager.stand_by(id, again, after=future, at_once=True)
        except InvalidCursorError:
            return
        await manager.send([id], "2")
        assert await again.count(1) == ["2"]

    async def test_what_a_client_that_left_was_not_written_is_for_the_next_stream(
        self, new_manager: Any
    ) -> None:
        id, gone, following = new_id(), _Gone(), RecordingController()
        manager, other = new_manager(), new_manager()
        await manager.create(id, gone)
        await other.send([id], "1")
        await other.send([id], "2")
        async with asyncio.timeout(LIMIT_SECONDS):
            await gone.refused.wait()
        await manager.release(id, gone)
        await other.create(id, following)
        assert await following.count(2) == ["1", "2"]

    async def test_a_release_of_any_holder_ends_the_stream_and_forgets_nothing(
        self, new_manager: Any
    ) -> None:
        needs(new_manager(), "release")
        id, first, second = new_id(), RecordingController(), RecordingController()
        await new_manager().create(id, first)
        await new_manager().send([id], "1")
        await first.count(1)
        await new_manager().release(id)
        assert await first.end() is CloseReason.INTERRUPTED
        await new_manager().send([id], "2")
        await new_manager().create(id, second)
        assert await second.count(1) == ["2"]

    async def test_delete_ends_the_stream_wherever_it_is(self, new_manager: Any) -> None:
        id, controller = new_id(), RecordingController()
        await new_manager().create(id, controller)
        other = new_manager()
        await other.delete(id)
        await other.delete(id)
        assert await controller.end() is CloseReason.DELETED
        assert not await other.has(id)

    async def test_delete_leaves_other_sessions_alone(self, new_manager: Any) -> None:
        id, neighbour = new_id(), new_id()
        controller = RecordingController()
        manager = new_manager()
        await manager.create(neighbour, controller)
        await manager.send([id], "x")
        await manager.delete(id)
        await manager.send([neighbour], "y")
        assert await controller.count(1) == ["y"]

    @pytest.mark.parametrize("id", ["", "/", "/broadcast", "/events"])
    async def test_what_is_no_sessions_is_not_deleted(self, new_manager: Any, id: str) -> None:
        session, controller = new_id(), RecordingController()
        manager = new_manager()
        await manager.create(session, controller)
        with pytest.raises(ValueError, match="no session"):
            await manager.delete(id)
        await new_manager().send(None, "all")
        assert await controller.count(1) == ["all"]

    async def test_delete_takes_the_private_mailboxes_along(self, new_manager: Any) -> None:
        id, controller, later = new_id(), RecordingController(), RecordingController()
        address = private_mailbox(id, "inbox")
        manager = new_manager()
        await manager.create(address, controller)
        await new_manager().delete(id)
        assert await controller.end() is CloseReason.DELETED
        await manager.send([address], "new")
        await manager.create(address, later)
        assert await later.count(1) == ["new"]

    async def test_has_is_false_for_what_never_was(self, new_manager: Any) -> None:
        assert not await new_manager().has(new_id())

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
        needs(new_manager(), "release")
        id, sender = new_id(), new_manager()
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
