"""The revision 2026-07-28: transport, subscriptions, request states."""

from tmcp_serverless.modern.bus import StreamSubscriptionBus
from tmcp_serverless.modern.transport import ModernOptions, ModernTransport

__all__ = [
    "ModernOptions",
    "ModernTransport",
    "StreamSubscriptionBus",
]
