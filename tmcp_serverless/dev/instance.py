"""The program of an instance's process: `python -m tmcp_serverless.dev.instance ORDER`."""

from __future__ import annotations

import socket
import sys
import traceback
from typing import TYPE_CHECKING

from tmcp_serverless.dev.control import GRACE_SECONDS, Control, Order, Report
from tmcp_serverless.dev.loading import LoadError, endpoint_of, load, parse
from tmcp_serverless.hosts.container import DrainingServer, configure
from tmcp_serverless.hosts.descriptors import bounded, raise_descriptor_limit

if TYPE_CHECKING:
    from collections.abc import Callable

    import uvicorn

    from tmcp_serverless.http import ASGIApp, Message, Receive, Scope, Send

__all__ = ["main"]

_BACKLOG = 1024
_NOT_LOADED = 2


class _Server(DrainingServer):
    """uvicorn that also reports that it is listening."""

    def __init__(self, config: uvicorn.Config, report: Callable[[], None]) -> None:
        super().__init__(config)
        self._report = report

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._report()


def main(arguments: list[str]) -> int:
    """Load the order's target and serve it until SIGTERM; return the exit code."""
    raise_descriptor_limit()
    order = Order.from_json(arguments[0])
    control = Control(order.control)
    try:
        app = load(parse(order.target))
    except LoadError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        control.report(Report(error=str(error)))
        return _NOT_LOADED
    _serve(_one_request_per_connection(app), order, control)
    return 0


def _serve(app: ASGIApp, order: Order, control: Control) -> None:
    listener = bounded(socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as in `balancer.listen`
    report = Report(port=listener.getsockname()[1], path=getattr(app, "path", ""))
    config = _configure(app, order)
    if order.amnesia:
        from tmcp_serverless.dev.zygote import Zygote  # needs os.fork

        Zygote(config, listener, control).run(lambda: control.report(report))
    else:
        control.follow()
        _Server(config, lambda: control.report(report)).run(sockets=[listener])


def _configure(app: ASGIApp, order: Order) -> uvicorn.Config:
    headers = [("connection", "close")]
    if not order.amnesia:  # else it is the process that serves the request which has a name
        headers.append(("x-tmcp-instance", order.name))
    return configure(
        app,
        access_log=order.verbose,
        backlog=_BACKLOG,
        headers=headers,
        log_level="info" if order.verbose else "warning",
        timeout_graceful_shutdown=int(GRACE_SECONDS),
    )


def _one_request_per_connection(app: ASGIApp) -> ASGIApp:
    """Drop the application's own `connection` headers, so that ours is the only one."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def forward(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.get("headers", ())
                message["headers"] = [each for each in headers if each[0].lower() != b"connection"]
            await send(message)

        await app(scope, receive, forward)

    if hasattr(app, "drain"):
        wrapped.drain = app.drain  # type: ignore[attr-defined]
    wrapped.path = endpoint_of(app)  # type: ignore[attr-defined]
    return wrapped


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
