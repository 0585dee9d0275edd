"""Log lines about failed requests: one line for a client's mistake, and few tracebacks for real failures.

A traceback takes milliseconds to write, and `rich` needs half a second for one, and nobody else is served
meanwhile. So a client that makes mistakes, or calls a tool that has a bug, could stop a process.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["bound_log_lines", "is_clients_mistake", "log_failure", "one_line"]

logger = logging.getLogger(__name__)

_SECONDS = 1.0
"""Seconds from one traceback to the next."""

_MOST_CHARACTERS = 1_000
"""Most characters of a text in a log line that a client may have written."""

_MOST_LINE_CHARACTERS = 8_000
"""Most characters of a message that an SDK has put together."""

_MOST_LISTED = 20
"""Most elements of a list in a log line, such as the fields that have wrong values."""

_READS_ARGUMENTS = frozenset({"fastmcp", "mcp", "mcp_types", "pydantic", "pydantic_core"})
"""Packages that find a client's mistakes: unknown names, and arguments of the wrong kind."""

_ON_THE_WAY = _READS_ARGUMENTS | {
    "anyio",
    "asyncio",
    "contextlib",
    "functools",
    "opentelemetry",
    "tmcp_serverless",
}
"""Packages between a request and its handler."""

_CHECK_RESULTS = frozenset({"convert_result", "serialize_server_result"})
"""Functions of the SDK that find a handler's mistakes (mcp 2.3)."""

_SDKS = ("mcp", "fastmcp")
"""First parts of the names of the SDKs' loggers."""


class _Tracebacks:
    """The tracebacks of a process: one each second. The others are counted."""

    def __init__(self) -> None:
        self._next = 0.0
        self._left_out = 0

    def take(self) -> int | None:
        """Return the number left out since the last traceback; `None`: leave this one out too."""
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        self._next = now + _SECONDS
        return left_out


_tracebacks = _Tracebacks()


def log_failure(log: logging.Logger, message: str, *arguments: Any, error: BaseException) -> None:
    """Log a failed handler: with a traceback, unless another one was written within the second.

    A client's mistake is one line, at INFO.
    """
    said = message % arguments
    if is_clients_mistake(error):
        log.info("%s: %s", said, _told(error))
    elif (left_out := _tracebacks.take()) is None:
        log.error("%s: %s (traceback left out)", said, _told(error))
    else:
        more = f" (and {left_out} more, without a traceback)" if left_out else ""
        if _is_long(error):
            log.error("%s%s\n%s", said, more, _short_traceback(error))
        else:
            log.error("%s%s", said, more, exc_info=error)


def is_clients_mistake(error: BaseException) -> bool:
    """Return `True` for an unknown name or a wrong argument: an exception before the handler's own code.

    It was raised by an SDK, and no frame of its traceback, or of its causes', is the server's own. An
    exception that passes through the server's own middleware counts as a failure.
    """
    last: TracebackType | None = None
    for each in _causes(error):
        trace = each.__traceback__
        while trace is not None:
            if _package(trace) not in _ON_THE_WAY or trace.tb_frame.f_code.co_name in _CHECK_RESULTS:
                return False
            last, trace = trace, trace.tb_next
    return last is not None and _package(last) in _READS_ARGUMENTS


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes, the first of all last. A chain may lead back to itself."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _package(trace: TracebackType) -> str:
    name: str = trace.tb_frame.f_globals.get("__name__") or ""
    return name.partition(".")[0]


def one_line(text: str) -> str:
    """Return the beginning of a text with its control characters escaped, for one log line."""
    cut = text[:_MOST_CHARACTERS]
    line = cut if cut.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)
    return line if len(text) <= _MOST_CHARACTERS else f"{line}… ({len(text)} characters)"


def _told(error: BaseException) -> str:
    """Return the kind and the text of the exception that was the first of all."""
    *_, first = _causes(error)
    try:
        text = str(first)
    except Exception:  # noqa: BLE001 - an exception's own code
        text = ""
    return one_line(f"{type(first).__name__}: {text}")


def bound_log_lines() -> None:
    """Bound the log lines of the SDKs in this process: their tracebacks, and their lengths. For hosts.

    Handlers of `rich` that the SDKs have set up write plain lines from now on. Idempotent.
    """
    if not isinstance(logging.getLogRecordFactory(), _Records):
        logging.setLogRecordFactory(_Records(logging.getLogRecordFactory()))
    _replace_rich_handlers()


class _Records:
    """Factory of log records that shortens those of the SDKs, in front of the process's own factory."""

    def __init__(self, factory: Any) -> None:
        self._factory = factory

    def __call__(self, *arguments: Any, **keywords: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._factory(*arguments, **keywords)
        # `logging.makeLogRecord` has no name yet.
        if record.name and record.name.partition(".")[0] in _SDKS:
            _shorten(record)
        return record


def _shorten(record: logging.LogRecord) -> None:
    if isinstance(record.args, tuple):
        record.args = tuple(_shortened(each) for each in record.args)
    if isinstance(record.msg, str) and len(record.msg) > _MOST_LINE_CHARACTERS:
        record.msg = f"{record.msg[:_MOST_LINE_CHARACTERS]}… ({len(record.msg)} characters)"
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return
    mistake = is_clients_mistake(error)
    if not mistake and (left_out := _tracebacks.take()) is not None:
        if left_out:
            _add(record, f" (and {left_out} more, without a traceback)")
        if _is_long(error):
            record.exc_info = record.exc_text = None
            _add(record, f"\n{_short_traceback(error)}")
        return
    record.exc_info = record.exc_text = None
    if mistake and record.levelno > logging.WARNING:
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    _add(record, f": {_told(error)}" if mistake else f": {_told(error)} (traceback left out)")


def _is_long(error: BaseException) -> bool:
    return any(
        isinstance(argument, str) and len(argument) > _MOST_CHARACTERS
        for each in _causes(error)
        for argument in each.args
    )


def _short_traceback(error: BaseException) -> str:
    """Return the traceback of the first of an exception's causes, with the beginning of its text."""
    *_, first = _causes(error)
    return "".join(traceback.format_tb(first.__traceback__)) + _told(first)


def _shortened(argument: Any) -> Any:
    if isinstance(argument, str) and len(argument) > _MOST_CHARACTERS:
        return f"{argument[:_MOST_CHARACTERS]}… ({len(argument)} characters)"
    if isinstance(argument, list) and len(argument) > _MOST_LISTED:
        return [*argument[:_MOST_LISTED], f"… ({len(argument)})"]
    return argument


def _add(record: logging.LogRecord, text: str) -> None:
    escaped = text.replace("%", "%%") if record.args else text
    record.msg = f"{record.msg}{escaped}"


def _replace_rich_handlers() -> None:
    """Replace the handlers that `mcp` and `fastmcp` have made of `rich`. Any other handler stays."""
    rich = sys.modules.get("rich.logging")
    if rich is None:
        return
    replaced: list[str] = []
    for name in ("root", "mcp", "fastmcp"):
        log = logging.getLogger(None if name == "root" else name)
        for handler in list(log.handlers):
            if type(handler) is rich.RichHandler and (name == "fastmcp" or _is_of_the_sdk(handler)):
                log.removeHandler(handler)
                log.addHandler(_plain(handler))
                replaced.append(name)
    if replaced:
        logger.info(
            "log lines of %s are plain from now on, without rich: it takes half a second for a traceback, "
            "and no client is served meanwhile",
            " and ".join(dict.fromkeys(replaced)),
        )


def _is_of_the_sdk(handler: Any) -> bool:
    """Return `True` for the handler that `MCPServer` gives the root logger (mcp 2.3)."""
    # Its format is the message alone.
    alone = handler.format(logging.makeLogRecord({"name": "a", "msg": "b"})) == "b"
    return bool(alone and handler.rich_tracebacks and handler.console.stderr)


def _plain(handler: Any) -> logging.Handler:
    plain = logging.StreamHandler(handler.console.file)
    plain.setLevel(handler.level)
    plain.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for each in handler.filters:
        plain.addFilter(each)
    return plain
