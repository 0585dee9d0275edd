"""Where log records go on Lambda, when it is our loop that runs and not AWS's.

Text or JSON, as the function's `LoggingConfig` says, in the same form as AWS's own runtime for Python writes
them. For CloudWatch, a line that ends in a carriage return goes on in the next one.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from contextvars import ContextVar

__all__ = ["REQUEST_ID", "configure_logging"]

REQUEST_ID: ContextVar[str] = ContextVar("tmcp_lambda_request_id", default="")
"""The invocation that a record belongs to."""

_LEVELS = {"TRACE": "DEBUG", "FATAL": "CRITICAL"}


def configure_logging() -> None:
    """Give the root logger its handler and its level."""
    as_json = os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonFormatter() if as_json else _TextFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    level = _LEVELS.get(level, level)
    if level in logging.getLevelNamesMapping():
        root.setLevel(level)


class _TextFormatter(logging.Formatter):
    converter = time.gmtime

    def __init__(self) -> None:
        super().__init__(
            "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(request_id)s\t%(message)s", "%Y-%m-%dT%H:%M:%S"
        )

    def format(self, record: logging.LogRecord) -> str:
        record.request_id = REQUEST_ID.get()
        text = super().format(record)
        return text if sys.stdout.isatty() else text.replace("\n", "\r")


class _JsonFormatter(logging.Formatter):
    converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "timestamp": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "requestId": REQUEST_ID.get(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["errorType"] = record.exc_info[0].__name__
            line["errorMessage"] = str(record.exc_info[1])
            line["stackTrace"] = self.formatException(record.exc_info).splitlines()
        return json.dumps(line, ensure_ascii=False, default=str)
