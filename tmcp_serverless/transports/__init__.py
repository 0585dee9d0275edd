"""Transports: ASGI applications over the session managers' contracts."""

from tmcp_serverless.transports.host import HOST_EXTENSION, Host
from tmcp_serverless.transports.http import HttpTransport
from tmcp_serverless.transports.legacy_sse import SseTransport
from tmcp_serverless.transports.options import HttpOptions
from tmcp_serverless.transports.runtime import ServerRuntime
from tmcp_serverless.transports.security import OriginPolicy

__all__ = [
    "HOST_EXTENSION",
    "Host",
    "HttpOptions",
    "HttpTransport",
    "OriginPolicy",
    "ServerRuntime",
    "SseTransport",
]
