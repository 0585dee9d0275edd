"""Lambda with whole answers, on AWS's own runtime: behind an HTTP API or any other existing front door.

No tool can ask its client here while it runs, and a GET is a long poll; in return it starts from a snapshot.
"""

from handlers.notes.server import handler
from tmcp_serverless.hosts import snapstart

__all__ = ["handler"]

snapstart.register(handler)
