"""Import of the handler that `_HANDLER` names, as in `app.handler`."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Protocol, cast

from tmcp_serverless.errors import ConfigurationError, TmcpError
from tmcp_serverless.hosts.lambda_streaming.faults import Fault
from tmcp_serverless.sdk.server_kind import server_kind

if TYPE_CHECKING:
    from tmcp_serverless.http import ASGIApp

__all__ = ["InitializationError", "LambdaHandler", "load_handler"]


class LambdaHandler(Protocol):
    """The part of a handler that the loop uses; `tmcp_serverless.Handler` is one."""

    @property
    def app(self) -> ASGIApp:
        """The application that serves HTTP requests."""
        raise NotImplementedError

    async def handle_event(self, event: Any, context: Any) -> Any:
        """Answer an event that is no HTTP request."""

    async def drain(self) -> None:
        """End the open streams."""

    async def aclose(self) -> None:
        """Close the handler's resources."""


class InitializationError(TmcpError):
    """The function cannot be initialized; the Runtime API is told the `fault`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.type}: {fault.message}")
        self.fault = fault


def load_handler(name: str) -> LambdaHandler:
    """Import the module and return the handler.

    Raises:
        InitializationError: There is none; the types are those of AWS's own runtime.

    """
    module_name, dot, attribute = name.rpartition(".")
    if not dot or not module_name or not attribute:
        raise _wrong("Runtime.MalformedHandlerName", f"Bad handler {name!r}: it is not MODULE.NAME")
    if module_name.partition(".")[0] in sys.builtin_module_names:
        message = f"Cannot use built-in module {module_name} as a handler module"
        raise _wrong("Runtime.BuiltInModuleConflict", message)
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        wrong = Fault.of(error)
        message = f"Unable to import module {module_name!r}: {error}"
        raise InitializationError(Fault("Runtime.ImportModuleError", message, wrong.trace)) from error
    except SyntaxError as error:
        trace = [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}']
        message = f"Syntax error in module {module_name!r}: {error}"
        raise InitializationError(Fault("Runtime.UserCodeSyntaxError", message, trace)) from error
    except BaseException as error:  # `sys.exit`, too: Lambda says why the function cannot be initialized
        raise InitializationError(Fault.of(error)) from error
    handler = getattr(module, attribute, None)
    if handler is None:
        raise _wrong("Runtime.HandlerNotFound", f"Handler {attribute!r} missing on module {module_name!r}")
    if all(hasattr(handler, each) for each in ("app", "handle_event", "drain", "aclose")):
        return cast("LambdaHandler", handler)
    try:
        server_kind(handler)
    except ConfigurationError:
        wrong = (
            f"{attribute!r} in module {module_name!r} is no handler made by tmcp_serverless.create_handler"
        )
        raise _wrong("Runtime.HandlerNotFound", f"{wrong}, and no server") from None
    return _handler_of(handler)


def _handler_of(server: Any) -> LambdaHandler:
    """Return a handler for the server, with the settings of the environment."""
    from tmcp_serverless.handler import create_handler  # heavy, and only servers need it

    try:
        return create_handler(server)
    except Exception as error:
        raise InitializationError(Fault.of(error)) from error


def _wrong(type: str, message: str) -> InitializationError:
    return InitializationError(Fault(type, message))
