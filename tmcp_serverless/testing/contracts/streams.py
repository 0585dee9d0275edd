"""The suite for managers of live streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tmcp_serverless.testing.contracts.delivery import DeliveryContract
from tmcp_serverless.testing.contracts.ownership import OwnershipContract

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmcp_serverless.sessions import StreamSessionManager

__all__ = ["StreamSessionManagerContract"]


@pytest.mark.anyio
class StreamSessionManagerContract(DeliveryContract, OwnershipContract):
    """Tests of a `StreamSessionManager`."""

    @pytest.fixture
    def new_manager(self) -> Callable[[], StreamSessionManager]:
        raise NotImplementedError("return a function that makes another instance over the same store")
