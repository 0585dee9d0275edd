"""Log output on Lambda when the kit's loop runs instead of AWS's.

Text or JSON, as the function's `LoggingConfig` says, in the form that AWS's own runtime for Python writes. In
CloudWatch, a line that ends in a carriage return continues in the next line.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback

from tmcp_serverless.hosts.lambda_streaming.faults import words_of
from tmcp_serverless.logs import INVOCATION_ID, TENANT_ID, level_from

__all__ = ["configure_logging"]


def configure_logging() -> None:
    """Give the root logger its handler and its level."""
    as_json = os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonFormatter() if as_json else _TextFormatter())
    handler.addFilter(_add_invocation)
    logging.Formatter.converter = time.gmtime
    root = logging.getLogger()
    root.addHandler(handler)
    if (level := level_from("AWS_LAMBDA_LOG_LEVEL")) is not None:
        root.setLevel(level)


_OF_EVERY_RECORD = {
    *logging.makeLogRecord({}).__dict__,
    "asctime",
    "aws_request_id",
    "message",
    "request_id",
    "taskName",
    "tenant_id",
}
"""Attributes that are no `extra` of the record's author."""


def _add_invocation(record: logging.LogRecord) -> bool:
    """Give a record the attributes that AWS's runtime gives it, for formatters of the function's own."""
    record.aws_request_id = INVOCATION_ID.get()
    record.tenant_id = TENANT_ID.get() or None
    return True


class _TextFormatter(logging.Formatter):
    converter = time.gmtime

    def __init__(self) -> None:
        super().__init__(
            "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(request_id)s\t%(message)s", "%Y-%m-%dT%H:%M:%S"
        )

    def format(self, record: logging.LogRecord) -> str:
        record.request_id = INVOCATION_ID.get()
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
            "requestId": INVOCATION_ID.get(),
        }
        if isinstance(record.msg, dict) and not record.args:
            line["message"] = record.msg
        if tenant := TENANT_ID.get():
            line["tenantId"] = tenant
        if record.exc_info and record.exc_info[0] is not None:
            line["errorType"] = record.exc_info[0].__name__
            line["errorMessage"] = words_of(record.exc_info[1])
            line["stackTrace"] = traceback.format_tb(record.exc_info[2])
            line["location"] = f"{record.pathname}:{record.funcName}:{record.lineno}"
        for name, value in record.__dict__.items():
            if name not in _OF_EVERY_RECORD and value is not None:
                line.setdefault(name, value)
        return json.dumps(line, ensure_ascii=False, default=str)
