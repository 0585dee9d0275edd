"""Three instances of a server for the modern era, and a client that speaks to each of them in turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.modern import ModernClient
from tests.support.modern_server import Stage, modern_server

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler

__all__ = ["client", "stage"]


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def client(new_handler: NewHandler, stage: Stage) -> ModernClient:
    """A client whose requests go to three instances in turns."""
    return ModernClient(*(new_handler(modern_server(stage)).app for _ in range(3)))
