"""A container, on Cloud Run or anywhere: `python -m handlers.container` serves on $PORT, else on 8080."""

import logging

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

# The SDK's server sets up logging as well, unless it is set up already.
from handlers.notes.server import handler  # noqa: E402
from tmcp_serverless.hosts.container import serve  # noqa: E402

__all__ = ["app"]

app = handler.app

if __name__ == "__main__":
    serve(app)
