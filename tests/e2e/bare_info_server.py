"""The orders server in one process, over session metadata that has TMCP's nine methods alone."""

from __future__ import annotations

from examples import orders
from tests.sessions.test_contracts import BareInfo
from tmcp_serverless import InMemoryStreamSessionManager, SessionManagers, create_handler

__all__ = ["handler"]

handler = orders.handler = create_handler(
    orders.server,
    session_manager=SessionManagers(streams=InMemoryStreamSessionManager(), info=BareInfo()),
    request_state_keys=["k" * 32],
)
