"""The orders server in one process, over session managers that have TMCP's methods alone."""

from __future__ import annotations

from examples import orders
from tests.support.bare_managers import bare_managers
from tmcp_serverless import create_handler

__all__ = ["handler"]

handler = orders.handler = create_handler(
    orders.server, session_manager=bare_managers(), request_state_keys=["k" * 32]
)
