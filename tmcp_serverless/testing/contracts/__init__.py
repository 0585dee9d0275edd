"""The contracts as tests: run them on your own session managers.

Subclass a suite, give it a fixture `new_manager` (for a topic of events: `new_topic`) that returns a
function, and let pytest collect it. Each call of that function returns another instance over the same store,
as another process would have it; a manager that lives in one process returns the same object every time. The
tests need the anyio plugin of pytest, on asyncio.

    class TestMyStreams(StreamSessionManagerContract):
        @pytest.fixture
        def new_manager(self):
            return lambda: MyStreams(...)
"""

from __future__ import annotations

from tmcp_serverless.testing.contracts.events import EventTopicContract
from tmcp_serverless.testing.contracts.info import InfoSessionManagerContract
from tmcp_serverless.testing.contracts.keys import KeyStoreContract
from tmcp_serverless.testing.contracts.recording import RecordingController
from tmcp_serverless.testing.contracts.streams import StreamSessionManagerContract

__all__ = [
    "EventTopicContract",
    "InfoSessionManagerContract",
    "KeyStoreContract",
    "RecordingController",
    "StreamSessionManagerContract",
]
