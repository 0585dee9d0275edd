"""Lambda, answers delivered whole, on AWS's own runtime: behind an HTTP API or whatever there is already.

Nothing can be asked here while a tool runs, and a GET is a long poll; in return it starts from a snapshot.
"""

from handlers.notes.server import handler
from tmcp_serverless.hosts import snapstart

__all__ = ["handler"]

snapstart.register(handler)
