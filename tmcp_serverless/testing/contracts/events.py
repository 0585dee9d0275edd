"""The suite for topics of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tmcp_serverless.testing.contracts.common import AWKWARD
from tmcp_serverless.testing.contracts.recording import RecordingController

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmcp_serverless.sessions import EventTopic

__all__ = ["EventTopicContract"]


@pytest.mark.anyio
class EventTopicContract:
    """Tests of an `EventTopic`."""

    @pytest.fixture
    def new_topic(self) -> Callable[[], EventTopic]:
        raise NotImplementedError("return a function that makes another instance over the same store")

    async def test_every_watch_hears_every_event_in_order(self, new_topic: Any) -> None:
        first, second, third = (RecordingController() for _ in range(3))
        publisher = new_topic()
        async with new_topic().watch(first), new_topic().watch(second), publisher.watch(third):
            for number in range(150):
                await publisher.publish(str(number))
            for controller in (first, second, third):
                assert await controller.count(150) == [str(number) for number in range(150)]

    @pytest.mark.parametrize("text", AWKWARD)
    async def test_an_event_arrives_whatever_its_characters(self, new_topic: Any, text: str) -> None:
        controller = RecordingController()
        async with new_topic().watch(controller):
            await new_topic().publish(text)
            assert await controller.count(1) == [text]

    async def test_a_watch_hears_what_is_published_from_its_beginning_on(self, new_topic: Any) -> None:
        earlier, controller = RecordingController(), RecordingController()
        async with new_topic().watch(earlier):
            await new_topic().publish("before")
            await earlier.count(1)
            async with new_topic().watch(controller):
                await new_topic().publish("after")
                assert await controller.count(1) == ["after"]
                assert await earlier.count(2) == ["before", "after"]

    async def test_a_watch_that_has_ended_hears_nothing_and_others_hear_on(self, new_topic: Any) -> None:
        topic, gone, kept = new_topic(), RecordingController(), RecordingController()
        async with topic.watch(kept):
            async with topic.watch(gone):
                pass
            await new_topic().publish("after")
            assert await kept.count(1) == ["after"]
        assert gone.data == []

    async def test_an_event_that_nobody_watches_is_published_all_the_same(self, new_topic: Any) -> None:
        await new_topic().publish("event")

    async def test_an_event_that_cannot_be_json_is_refused(self, new_topic: Any) -> None:
        topic, controller = new_topic(), RecordingController()
        async with topic.watch(controller):
            with pytest.raises(ValueError, match="NUL"):
                await topic.publish("a\0b")
            await topic.publish("ab")
            assert await controller.count(1) == ["ab"]
