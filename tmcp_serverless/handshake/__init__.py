"""Transports of the revisions 2024-11-05 to 2025-11-25, over the session managers' contracts."""

from tmcp_serverless.handshake.http_sse import HttpSseTransport
from tmcp_serverless.handshake.streamable_http import HttpTransport

__all__ = [
    "HttpSseTransport",
    "HttpTransport",
]
