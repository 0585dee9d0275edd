"""The suite for key stores."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tmcp_serverless.testing.contracts.common import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmcp_serverless.sessions import KeyStore

__all__ = ["KeyStoreContract"]


@pytest.mark.anyio
class KeyStoreContract:
    """Checks that a `KeyStore` shares its secrets, and lets a token be used once."""

    @pytest.fixture
    def new_manager(self) -> Callable[[], KeyStore]:
        raise NotImplementedError("return a function that makes another instance over the same store")

    async def test_a_secret_is_the_first_that_was_proposed(self, new_manager: Any) -> None:
        name = new_id()
        proposals = [new_manager().secret(name, f"proposal {number}") for number in range(8)]
        [first] = set(await asyncio.gather(*proposals))
        assert first.startswith("proposal")
        assert await new_manager().secret(name, "another") == first
        assert await new_manager().secret(new_id(), "its own") == "its own"

    async def test_a_token_is_used_once(self, new_manager: Any) -> None:
        token = new_id()
        outcomes = await asyncio.gather(*(new_manager().spend(token, seconds=60) for _ in range(8)))
        assert sorted(outcomes) == [False] * 7 + [True]
        assert await new_manager().spend(new_id(), seconds=60)
