"""Transports: ASGI applications over the session managers' contracts."""

from tmcp_serverless.transports.http_sse import HttpSseTransport
from tmcp_serverless.transports.origin import OriginPolicy
from tmcp_serverless.transports.platform import PLATFORM_EXTENSION, HttpOptions, Platform
from tmcp_serverless.transports.server import ServerRuntime
from tmcp_serverless.transports.streamable_http import HttpTransport

__all__ = [
    "PLATFORM_EXTENSION",
    "HttpOptions",
    "HttpSseTransport",
    "HttpTransport",
    "OriginPolicy",
    "Platform",
    "ServerRuntime",
]
