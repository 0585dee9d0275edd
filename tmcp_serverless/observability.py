"""Logs and metrics, if the settings ask for them. If not, they add nothing to a request.

* Log lines of `tmcp_serverless` as JSON objects with their request's fields (`TMCP_LOG_FORMAT`; on Lambda by
  default), and one more line for each request.
* Metrics in CloudWatch's embedded format, on standard output (`TMCP_METRICS`). They are flushed at the end of
  every request, and once more when a stream opens: Powertools' own decorator would wait for the invocation.

Both are Powertools', from the extra `aws`. A session's id is a secret if clients do not log in, so it is
logged as the first twelve digits of its SHA-256.
"""

from __future__ import annotations

import contextvars
import hashlib
import json
import logging
import os
import sys
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.http import ERAS, MODERN, OBSERVED_EXTENSION
from tmcp_serverless.logs import INVOCATION_ID, instance_name, level_from, loggable_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmcp_serverless.config import Settings
    from tmcp_serverless.http import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Observer", "observer_for", "request_fields"]

logger = logging.getLogger("tmcp_serverless.requests")

_REQUEST_IDS = ("x-request-id", "x-amzn-trace-id", "traceparent", "x-cloud-trace-context")
_SAFE = " !#$&'()*+,-./:;<=>?@[]^_`{|}~"
_READ_BYTES = 64 * 1024
"""A longer body is not read a second time for the sake of its method's name."""

_current: contextvars.ContextVar[dict[str, str] | None] = contextvars.ContextVar("tmcp_request", default=None)


def request_fields() -> dict[str, str]:
    """Return the known fields of the request that is being served, for your own log lines.

    The keys are `request_id`, `session`, `namespace`, `era`, `method` and `instance`, as far as they are
    known. There are none outside of a request, or if logs are not JSON and there are no metrics.
    """
    return dict(_current.get() or {})


def observer_for(settings: Settings, *, namespace: str | None = None) -> Observer | None:
    """Return the observer of requests; `None` if nothing is to be observed. Sets up the logger for JSON.

    `namespace` is in the log lines and metrics of every request, if there is one.

    Raises:
        ConfigurationError: Powertools is not installed, and was asked for.

    """
    by_itself = settings.log_format == "auto" and "AWS_LAMBDA_FUNCTION_NAME" in os.environ
    if not by_itself and not settings.metrics and settings.log_format != "json":
        return None
    if find_spec("aws_lambda_powertools") is None:
        if not settings.metrics and settings.log_format != "json":
            return None
        setting = "TMCP_METRICS" if settings.metrics else "TMCP_LOG_FORMAT"
        raise ConfigurationError(
            f"{setting} needs the extra `aws`: run `pip install 'tmcp-serverless[aws]'`, or change it"
        )
    if by_itself or settings.log_format == "json":
        _log_json()
    return Observer(metrics=_metrics(settings) if settings.metrics else None, namespace=namespace)


@dataclass(slots=True)
class _Seen:
    """The observations of one request so far."""

    fields: dict[str, str]
    began_at: float
    status: int = 0
    streams: bool = False
    events: int = 0
    noted: dict[str, int] = field(default_factory=dict[str, int])

    def note(self, what: str) -> None:
        """Count an event that is not seen from outside."""
        self.noted[what] = self.noted.get(what, 0) + 1


class Observer:
    """Watches requests from outside: their input and their output."""

    def __init__(self, *, metrics: Any = None, namespace: str | None = None) -> None:
        self._metrics = metrics
        self._constant = {} if namespace is None else {"namespace": namespace}

    def around(self, app: ASGIApp, *, but: Callable[[Scope], bool]) -> ASGIApp:
        """Return the application, watched except for the requests that `but` accepts."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            if but(scope):
                await app(scope, receive, send)
                return
            seen = _Seen({**_fields_of(scope), **self._constant}, time.monotonic())
            extensions = {**(scope.get("extensions") or {}), OBSERVED_EXTENSION: seen.note}
            token = _current.set(seen.fields)
            try:
                await app(
                    {**scope, "extensions": extensions},
                    _reading(receive, seen),
                    self._counting(send, seen),
                )
            finally:
                self._end(seen, scope)
                _current.reset(token)

        return watched

    def count(self, what: str) -> None:
        """Count an event outside of requests. It has no era."""
        if self._metrics is not None:
            self._flush({what: ("Count", 1)})

    def _counting(self, send: Send, seen: _Seen) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                seen.streams = any(
                    name.lower() == b"content-type" and value.startswith(b"text/event-stream")
                    for name, value in message["headers"]
                )
                if seen.streams:
                    self._measure(seen, {"StreamsOpened": ("Count", 1)})
            elif seen.streams:
                seen.events += message.get("body", b"").count(b"data: {")
            await send(message)

        return counted

    def _end(self, seen: _Seen, scope: Scope) -> None:
        seconds = time.monotonic() - seen.began_at
        logger.info(
            "%s %s %s",
            scope["method"],
            loggable_path(scope),
            seen.status or "unanswered",
            extra={
                "status": seen.status,
                "milliseconds": round(seconds * 1000, 1),
                "stream": seen.streams,
                "events": seen.events,
            },
        )
        measured: dict[str, tuple[str, float]] = {
            "Requests": ("Count", 1),
            "Errors": ("Count", int(seen.status >= 500 or not seen.status)),  # noqa: PLR2004 - HTTP's own
            **{name: ("Count", count) for name, count in seen.noted.items()},
        }
        if seen.streams:
            measured["StreamSeconds"] = ("Seconds", seconds)
            measured["EventsDelivered"] = ("Count", seen.events)
        self._measure(seen, measured)

    def _measure(self, seen: _Seen, measured: dict[str, tuple[str, float]]) -> None:
        if self._metrics is None:
            return
        # Nothing is awaited between here and the flush, so requests do not mix.
        self._metrics.add_dimension(name="era", value=seen.fields["era"])
        self._flush(measured)

    def _flush(self, measured: dict[str, tuple[str, float]]) -> None:
        if self._constant:
            # CloudWatch takes ASCII.
            namespace = quote(self._constant["namespace"], safe=_SAFE)
            self._metrics.add_dimension(name="namespace", value=namespace)
        for name, (unit, value) in measured.items():
            self._metrics.add_metric(name=name, unit=unit, value=value)
        self._metrics.flush_metrics()


def _fields_of(scope: Scope) -> dict[str, str]:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    found = {"era": ERAS.get(headers.get("mcp-protocol-version"), MODERN), "instance": instance_name()}
    context = scope.get("aws.context")
    ids = [getattr(context, "aws_request_id", None), *map(headers.get, _REQUEST_IDS)]
    if (id := next(filter(None, ids), None)) is not None:
        found["request_id"] = id
    if (session := headers.get("mcp-session-id")) is not None:
        found["session"] = hashlib.sha256(session.encode()).hexdigest()[:12]
    if (method := headers.get("mcp-method")) is not None:
        found["method"] = method
    return found


def _reading(receive: Receive, seen: _Seen) -> Receive:
    async def read() -> Message:
        message = await receive()
        body: bytes = message.get("body", b"")
        if "method" not in seen.fields and 0 < len(body) <= _READ_BYTES and not message.get("more_body"):
            method = _method_of(body)
            if method is not None:
                seen.fields["method"] = method
        return message

    return read


def _method_of(body: bytes) -> str | None:
    try:
        message: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    found = message.get("method") if isinstance(message, dict) else None
    return found[:64] if isinstance(found, str) else None


class _WithFields(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        fields = {"logger": record.name, **(_current.get() or {})}
        if id := INVOCATION_ID.get():
            # The host logs about an invocation outside of its request.
            fields.setdefault("request_id", id)
        for name, value in fields.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


def _log_json() -> None:
    from aws_lambda_powertools.logging.formatter import (  # an extra
        LambdaPowertoolsFormatter,
    )

    parent = logging.getLogger("tmcp_serverless")
    if any(isinstance(handler.formatter, LambdaPowertoolsFormatter) for handler in parent.handlers):
        return
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(LambdaPowertoolsFormatter(utc=True, use_rfc3339=True))
    handler.addFilter(_WithFields())
    parent.addHandler(handler)
    parent.setLevel(level_from("POWERTOOLS_LOG_LEVEL", "AWS_LAMBDA_LOG_LEVEL") or "INFO")
    # Lambda's own handler would write every line a second time.
    parent.propagate = False


def _metrics(settings: Settings) -> Any:
    from aws_lambda_powertools.metrics import EphemeralMetrics  # an extra

    service = os.environ.get("POWERTOOLS_SERVICE_NAME") or os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
    return EphemeralMetrics(namespace=settings.metrics_namespace, service=service or "tmcp_serverless")
