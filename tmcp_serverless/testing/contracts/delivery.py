"""Tests of delivery: every message reaches its stream in order and once, and no other stream."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from tmcp_serverless.sessions.addresses import private_mailbox
from tmcp_serverless.testing.contracts.common import AWKWARD, LIMIT_SECONDS, needs, new_id
from tmcp_serverless.testing.contracts.recording import RecordingController

__all__ = ["DeliveryContract"]


class DeliveryContract:
    """Tests of a `StreamSessionManager`'s messages; a part of `StreamSessionManagerContract`."""

    @pytest.mark.parametrize("text", AWKWARD)
    async def test_what_is_sent_arrives_whatever_its_characters(self, new_manager: Any, text: str) -> None:
        id, controller = new_id(), RecordingController()
        await new_manager().create(id, controller)
        await new_manager().send([id], text)
        assert await controller.count(1) == [text]

    @pytest.mark.parametrize("size", [7_999, 8_000, 1_000_000, 4_000_000])
    async def test_a_large_message_arrives_whole(self, new_manager: Any, size: int) -> None:
        id, controller = new_id(), RecordingController()
        await new_manager().create(id, controller)
        await new_manager().send([id], "é" * (size // 2))
        assert await controller.count(1) == ["é" * (size // 2)]

    async def test_messages_arrive_in_order_and_once(self, new_manager: Any) -> None:
        id, controller = new_id(), RecordingController()
        sender = new_manager()
        await new_manager().create(id, controller)
        for number in range(200):
            await sender.send([id], str(number))
        assert await controller.count(200) == [str(number) for number in range(200)]

    async def test_every_one_of_several_senders_at_once_is_heard(self, new_manager: Any) -> None:
        id, controller = new_id(), RecordingController()
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
        id, controller, manager = new_id(), RecordingController(), new_manager()
        for number in range(200):
            await manager.send([id], str(number))
        await new_manager().create(id, controller)
        assert await controller.count(200) == [str(number) for number in range(200)]
        assert controller.missing == 0

    async def test_what_was_sent_before_the_stream_is_delivered_to_it(self, new_manager: Any) -> None:
        id, controller = new_id(), RecordingController()
        await new_manager().send([id], "early")
        await new_manager().create(id, controller)
        assert await controller.count(1) == ["early"]

    async def test_nothing_is_lost_once_has_says_that_there_is_a_stream(self, new_manager: Any) -> None:
        id, controller, sender = new_id(), RecordingController(), new_manager()
        opening = asyncio.ensure_future(new_manager().create(id, controller))
        async with asyncio.timeout(LIMIT_SECONDS):
            while not await sender.has(id):
                await asyncio.sleep(0)
        for number in range(100):
            await sender.send([id], str(number))
        await opening
        assert await controller.count(100) == [str(number) for number in range(100)]

    async def test_a_message_reaches_the_given_sessions_and_no_other(self, new_manager: Any) -> None:
        ids = [new_id() for _ in range(3)]
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
        controllers = {new_id(): RecordingController() for _ in range(5)}
        for id, controller in controllers.items():
            await new_manager().create(id, controller)
        await new_manager().send(None, "all")
        await new_manager().send(list(controllers), "last")
        for controller in controllers.values():
            assert sorted(await controller.count(2)) == ["all", "last"]

    async def test_what_cannot_be_json_is_refused_wherever_it_is_given(self, new_manager: Any) -> None:
        id, controller, manager = new_id(), RecordingController(), new_manager()
        await manager.create(id, controller)
        for send, *arguments in (
            (manager.send, [id]),
            (manager.send, []),
            (manager.send, None),
            (manager.append, id),
            (partial(manager.append, create=False), id),
            (partial(manager.append, create=False), new_id()),
        ):
            with pytest.raises(ValueError, match="NUL"):
                await send(*arguments, "a\0b")
        await manager.send([id], "ab")
        assert await controller.count(1) == ["ab"]

    async def test_one_id_is_no_list_of_ids(self, new_manager: Any) -> None:
        with pytest.raises(ValueError, match="a list of session ids"):
            await new_manager().send(new_id(), "x")

    async def test_a_broadcast_does_not_reach_a_private_mailbox(self, new_manager: Any) -> None:
        address, controller = private_mailbox(new_id(), "inbox"), RecordingController()
        await new_manager().create(address, controller)
        await new_manager().send(None, "all")
        await new_manager().send([address], "mine")
        assert await controller.count(1) == ["mine"]

    async def test_a_prepared_session_gets_what_was_broadcast_while_it_had_no_stream(
        self, new_manager: Any
    ) -> None:
        id, controller = new_id(), RecordingController()
        await new_manager().send(None, "before it began")
        await new_manager().prepare(id)
        await new_manager().send(None, "while away")
        await new_manager().create(id, controller)
        await controller.until(lambda: any(controller.data))
        assert [text for text in controller.data if text] == ["while away"]

    async def test_a_stream_that_was_released_goes_on_where_it_was(self, new_manager: Any) -> None:
        needs(new_manager(), "release")
        id, first, second = new_id(), RecordingController(), RecordingController()
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
        id, first, second = new_id(), RecordingController(), RecordingController()
        manager = new_manager()
        await manager.create(id, first)
        for text in "abcd":
            await manager.send([id], text)
        await first.count(4)
        await new_manager().create(id, second, after=first.events[1].cursor)
        assert await second.count(2) == ["c", "d"]

    async def test_where_a_stream_starts_can_be_continued_behind(self, new_manager: Any) -> None:
        id, first, second = new_id(), RecordingController(), RecordingController()
        await new_manager().send([id], "early")
        await new_manager().create(id, first)
        await new_manager().send([id], "late")
        await first.count(2)
        if first.start is not None:
            await new_manager().create(id, second, after=first.start)
            assert await second.count(2) == ["early", "late"]

    async def test_cursors_are_unique_and_fit_for_an_event_id(self, new_manager: Any) -> None:
        id, controller = new_id(), RecordingController()
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

    async def test_appended_messages_are_read_after_their_cursors(self, new_manager: Any) -> None:
        address, controller = private_mailbox(new_id(), "out"), RecordingController()
        manager = new_manager()
        cursors = [await manager.append(address, text) for text in "abc"]
        assert None not in cursors
        if cursors == [""] * 3:
            return
        await new_manager().create(address, controller, after=cursors[0])
        assert await controller.count(2) == ["b", "c"]
        assert [event.cursor for event in controller.events] == cursors[1:]

    async def test_a_writer_may_append_again_what_may_have_been_appended(self, new_manager: Any) -> None:
        needs(new_manager(), "append")
        address, controller = private_mailbox(new_id(), "out"), RecordingController()
        first = await new_manager().append(address, "a", after="")
        assert await new_manager().append(address, "a", after="") == first
        second = await new_manager().append(address, "b", after=first)
        assert await new_manager().append(address, "b", after=first) == second
        await new_manager().append(address, "c", after=second)
        await new_manager().create(address, controller)
        assert await controller.count(3) == ["a", "b", "c"]

    async def test_a_message_for_a_mailbox_that_exists_reaches_it(self, new_manager: Any) -> None:
        address, controller = private_mailbox(new_id(), "in"), RecordingController()
        await new_manager().create(address, controller)
        assert await new_manager().append(address, "x", create=False) is not None
        assert await controller.count(1) == ["x"]

    async def test_a_message_for_a_mailbox_that_must_exist_makes_none(self, new_manager: Any) -> None:
        needs(new_manager(), "append")
        address, controller = private_mailbox(new_id(), "in"), RecordingController()
        assert await new_manager().append(address, "early", create=False) is None
        await new_manager().create(address, controller)
        await new_manager().send([address], "x")
        assert await controller.count(1) == ["x"]
