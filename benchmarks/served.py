"""The server under test in processes of its own: `handler` on Lambda, `handler.app` with uvicorn."""

from __future__ import annotations

import os

from benchmarks.example import build_server
from tmcp_serverless.handler import create_handler

handler = create_handler(build_server(), database_url=os.environ["BENCH_DATABASE_URL"])
