"""The suite for managers of session metadata."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tmcp_serverless.sessions import SessionRecord
from tmcp_serverless.testing.contracts.common import AWKWARD, new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmcp_serverless.sessions import InfoSessionManager

__all__ = ["InfoSessionManagerContract"]


@pytest.mark.anyio
class InfoSessionManagerContract:
    """Tests of an `InfoSessionManager`, for sessions that `initialize` has made."""

    record = SessionRecord(
        protocol_version="2025-11-25",
        client_info={"name": "it's", "version": "1", "title": 'a "client"'},
        client_capabilities={"roots": {"listChanged": True}, "experimental": {"ż": {}}},
    )

    @pytest.fixture
    def new_manager(self) -> Callable[[], InfoSessionManager]:
        raise NotImplementedError("return a function that makes another instance over the same store")

    async def test_getters_say_that_there_is_nothing(self, new_manager: Any) -> None:
        manager, id = new_manager(), new_id()
        assert await manager.get_client_info(id) is None
        assert await manager.get_client_capabilities(id) is None
        assert await manager.get_log_level(id) is None
        assert await manager.get_subscriptions("x://y") == set()
        assert await manager.load(id) is None

    async def test_a_value_that_was_set_is_found_by_another_instance(self, new_manager: Any) -> None:
        manager, other, id = new_manager(), new_manager(), new_id()
        assert await manager.initialize(id, self.record)
        await manager.set_client_info(id, {"name": "a"})
        await manager.set_client_info(id, {"name": "b"})
        await manager.set_client_capabilities(id, {"sampling": {}})
        await manager.set_log_level(id, "info")
        await manager.set_log_level(id, "error")
        assert await other.get_client_info(id) == {"name": "b"}
        assert await other.get_client_capabilities(id) == {"sampling": {}}
        assert await other.get_log_level(id) == "error"

    async def test_an_initialized_session_is_loaded_whole(self, new_manager: Any) -> None:
        id = new_id()
        await new_manager().initialize(id, self.record)
        loaded = await new_manager().load(id)
        assert loaded == self.record
        assert await new_manager().get_client_capabilities(id) == self.record.client_capabilities

    async def test_a_session_may_exist_before_it_is_negotiated(self, new_manager: Any) -> None:
        id, manager = new_id(), new_manager()
        early = SessionRecord(
            protocol_version="2024-11-05", client_info={}, client_capabilities={}, principal="me"
        )
        await manager.initialize(id, early)
        loaded = await new_manager().load(id, principal="me")
        assert loaded == early
        assert not loaded.is_negotiated
        await manager.initialize(id, replace(self.record, principal="me"))
        loaded = await new_manager().load(id, principal="me")
        assert loaded == replace(self.record, principal="me")

    async def test_a_session_that_is_there_is_renewed_whole(self, new_manager: Any) -> None:
        id, manager = new_id(), new_manager()
        await manager.initialize(id, replace(self.record, principal="me", initialized=True))
        await manager.set_log_level(id, "info")
        await manager.add_subscription(id, f"x://{id}")
        newer = replace(self.record, principal="me", protocol_version="2025-06-18", client_capabilities={})
        assert await new_manager().initialize(id, newer, only_if_exists=True)
        assert await new_manager().load(id, principal="me") == replace(newer, log_level="info")
        assert await manager.get_client_capabilities(id) == {}
        assert await manager.get_subscriptions(f"x://{id}") == {id}
        assert await new_manager().initialize(id, replace(newer, log_level="error"), only_if_exists=True)
        assert await manager.get_log_level(id) == "error"

    async def test_a_session_that_is_not_there_is_not_renewed(self, new_manager: Any) -> None:
        id, manager = new_id(), new_manager()
        assert not await manager.initialize(id, self.record, only_if_exists=True)
        assert await manager.load(id) is None
        await manager.initialize(id, self.record)
        another = replace(self.record, principal="somebody else")
        assert not await manager.initialize(id, another, only_if_exists=True)
        assert await manager.load(id) == self.record
        await new_manager().delete(id)
        assert not await manager.initialize(id, self.record, only_if_exists=True)
        assert await manager.load(id) is None
        assert await manager.get_client_info(id) is None

    async def test_a_loaded_session_knows_what_was_set_since(self, new_manager: Any) -> None:
        id, manager = new_id(), new_manager()
        await manager.initialize(id, self.record)
        await manager.set_log_level(id, "warning")
        await manager.set_client_capabilities(id, {"sampling": {}})
        await manager.update(id, initialized=True)
        await manager.update(id, initialized=True)
        loaded = await new_manager().load(id)
        assert loaded is not None
        assert loaded.log_level == "warning"
        assert loaded.client_capabilities == {"sampling": {}}
        assert loaded.client_info == self.record.client_info
        assert loaded.initialized
        await manager.update(id)
        assert await new_manager().load(id) == loaded
        await manager.update(id, log_level="error", initialized=False)
        assert await new_manager().load(id) == replace(loaded, log_level="error", initialized=False)
        assert await new_manager().get_log_level(id) == "error"

    async def test_an_update_of_what_is_no_session_makes_none(self, new_manager: Any) -> None:
        id, manager = new_id(), new_manager()
        await manager.update(id, initialized=True)
        assert await manager.load(id) is None
        assert await manager.get_client_info(id) is None

    async def test_a_session_is_found_by_its_principal_only(self, new_manager: Any) -> None:
        id, manager = new_id(), new_manager()
        record = SessionRecord(
            protocol_version="2025-06-18",
            client_info={"name": "c", "version": "1"},
            client_capabilities={},
            principal='["iss","me",null]',
        )
        await manager.initialize(id, record)
        assert await manager.load(id) is None
        assert await manager.load(id, principal="somebody else") is None
        assert await manager.load(id, principal=record.principal) == record

    async def test_a_session_has_any_number_of_subscriptions(self, new_manager: Any) -> None:
        first, second, manager = new_id(), new_id(), new_manager()
        for id in (first, second):
            await manager.initialize(id, self.record)
        for number in range(10):
            await manager.add_subscription(first, f"x://{number}")
        await manager.add_subscription(first, "x://3")
        await manager.add_subscription(second, "x://3")
        assert await new_manager().get_subscriptions("x://3") == {first, second}
        assert await new_manager().get_subscriptions("x://4") == {first}

    async def test_a_subscription_is_taken_back_where_that_is_offered(self, new_manager: Any) -> None:
        first, second, manager = new_id(), new_id(), new_manager()
        for id in (first, second):
            await manager.initialize(id, self.record)
            await manager.add_subscription(id, "x://removed")
        if not manager.can_remove_subscriptions:
            with pytest.raises(NotImplementedError):
                await manager.remove_subscription(first, "x://removed")
            return
        await manager.remove_subscription(first, "x://removed")
        await manager.remove_subscription(first, "x://removed")
        assert await new_manager().get_subscriptions("x://removed") == {second}

    async def test_delete_removes_the_session_and_nothing_of_another(self, new_manager: Any) -> None:
        gone, kept, manager = new_id(), new_id(), new_manager()
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
        manager, id = new_manager(), new_id()
        await manager.initialize(id, self.record)
        for text in AWKWARD:
            await manager.set_client_info(id, {"name": text})
            assert await manager.get_client_info(id) == {"name": text}
            await manager.add_subscription(id, text)
            assert await manager.get_subscriptions(text) == {id}
        assert await manager.load("'; DROP TABLE tmcp_session_context; --") is None
