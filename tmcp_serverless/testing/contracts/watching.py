"""Tests of watches: they hear every broadcast and every event, from then on."""

from __future__ import annotations

from typing import Any

import pytest

from tmcp_serverless.testing.contracts.common import needs
from tmcp_serverless.testing.contracts.recording import RecordingController

__all__ = ["WatchingContract"]


class WatchingContract:
    """Tests of a `StreamSessionManager`'s watches; a part of `StreamSessionManagerContract`."""

    async def test_whoever_watches_hears_broadcasts_from_then_on(self, new_manager: Any) -> None:
        await new_manager().send(None, "before")
        watchers = [(new_manager(), RecordingController()) for _ in range(3)]
        for manager, controller in watchers:
            await manager.watch(controller)
        await new_manager().send(None, "one")
        await watchers[0][0].send(None, "two")
        for _, controller in watchers:
            assert await controller.count(2) == ["one", "two"]

    async def test_whoever_watches_hears_every_event_in_order(self, new_manager: Any) -> None:
        watchers = [(new_manager(), RecordingController()) for _ in range(3)]
        needs(watchers[0][0], "publish", "watch")
        for manager, controller in watchers:
            await manager.watch(controller)
        publisher = new_manager()
        for number in range(150):
            await publisher.publish(str(number))
        for _, controller in watchers:
            assert await controller.count(150) == [str(number) for number in range(150)]

    async def test_what_is_published_reaches_no_session(self, new_manager: Any) -> None:
        manager, session, watcher = new_manager(), RecordingController(), RecordingController()
        needs(manager, "publish", "watch")
        await manager.create("a-session", session)
        await manager.watch(watcher)
        await new_manager().publish("event")
        await new_manager().send(None, "broadcast")
        assert sorted(await watcher.count(2)) == ["broadcast", "event"]
        assert await session.count(1) == ["broadcast"]

    async def test_an_event_that_cannot_be_json_is_refused(self, new_manager: Any) -> None:
        manager = new_manager()
        needs(manager, "publish")
        with pytest.raises(ValueError, match="NUL"):
            await manager.publish("a\0b")

    async def test_who_has_stopped_watching_hears_nothing_and_others_hear_on(self, new_manager: Any) -> None:
        manager, gone, kept = new_manager(), RecordingController(), RecordingController()
        address = await manager.watch(gone)
        await manager.watch(kept)
        await manager.release(address, gone)
        await new_manager().send(None, "after")
        assert await kept.count(1) == ["after"]
        assert gone.data == []
