"""Loading of an ASGI application by its name on the command line, `MODULE:ATTR`.

`python -m tmcp_serverless.dev.loading MODULE:ATTR` prints the path of its MCP endpoint, if that is known.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from tmcp_serverless.errors import TmcpError
from tmcp_serverless.sdk.server_kind import server_kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tmcp_serverless.http import ASGIApp

__all__ = ["LoadError", "Target", "ask_endpoint", "endpoint_of", "is_asgi", "lambda_name", "load", "parse"]

_ASGI_PARAMETERS = 3
_CANDIDATES = 8
_ENDPOINT_SECONDS = 20.0


class LoadError(TmcpError):
    """The command line's target cannot be served. The message is one sentence, a cause the user's own."""


@dataclass(frozen=True, slots=True)
class Target:
    """A module, by its dotted name or the path of its file, and the name of an attribute in it."""

    module: str
    attribute: str

    @property
    def is_file(self) -> bool:
        """True if the module is given by its path."""
        return self.module.endswith(".py")

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"


def parse(text: str, *, folder: Path | None = None) -> Target:
    """Read `MODULE:ATTR`, without importing. A file is looked for in `folder`, or in the current folder.

    Raises:
        LoadError: It is none, or the file does not exist.
    """
    module, colon, attribute = text.rpartition(":")
    if not colon or not module or not attribute:
        raise LoadError(f"{text!r} is not MODULE:ATTR, such as `app:server` or `examples/orders.py:server`.")
    target = Target(module, attribute)
    folder = folder or Path.cwd()
    if target.is_file and not (folder / module).is_file():
        raise LoadError(f"There is no file {module} in {folder}.")
    return target


def load(target: Target) -> ASGIApp:
    """Import the module and return the attribute's ASGI application.

    The attribute is a handler made by `create_handler`, a server (a handler is made for it), or an ASGI
    application.

    Raises:
        LoadError: There is no such module or attribute, its import failed, or it is nothing of that kind.
    """
    module = _import(target)
    value: Any = module
    for name in target.attribute.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            raise LoadError(f"{target.module} has no {target.attribute!r}{_hint(module)}") from None
    return _application(value, target)


def endpoint_of(app: Any) -> str:
    """Return the path of the MCP endpoint in an ASGI application, or of ours mounted in it; "" if unknown."""
    if isinstance(path := getattr(app, "path", None), str) and hasattr(app, "drain"):
        return path
    for route in getattr(app, "routes", ()):
        if type(route).__name__ == "Mount" and (below := endpoint_of(route.app)):
            return f"{route.path.rstrip('/')}{below}"
    return ""


def ask_endpoint(target: str, *, folder: Path, environment: Mapping[str, str]) -> str:
    """Import the target in a process of its own, and return the path of its endpoint; "" if it is unknown."""
    command = [sys.executable, "-m", __name__, target]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        asked = subprocess.run(  # noqa: S603 - ourselves
            command,
            cwd=folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=_ENDPOINT_SECONDS,
            check=True,
        )
        return asked.stdout.rpartition("endpoint=")[2].strip()
    return ""


def lambda_name(target: Target, *, folder: Path) -> tuple[str, Path]:
    """Return a handler's name on Lambda, `MODULE.NAME`, and the folder that its import starts from.

    Raises:
        LoadError: The attribute has dots in it; Lambda would take them for those of the module.
    """
    if "." in target.attribute:
        raise LoadError(f"On Lambda a handler is MODULE:NAME, and {target.attribute!r} is no plain name.")
    name, folder = _of_file(folder / target.module) if target.is_file else (target.module, folder)
    return f"{name}.{target.attribute}", folder


def _import(target: Target) -> ModuleType:
    name, folder = _of_file(Path(target.module)) if target.is_file else (target.module, Path.cwd())
    for place in (str(Path.cwd()), str(folder)):
        if place not in sys.path:
            sys.path.insert(0, place)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise LoadError(f"There is no module {name!r} in {Path.cwd()} or installed.") from None
        raise _failed(target, error) from error
    except Exception as error:
        raise _failed(target, error) from error
    if target.is_file and not _is_from(module, Path(target.module)):
        raise LoadError(f"{target.module} has the name of another module, {name!r}; rename the file.")
    return module


def _of_file(path: Path) -> tuple[str, Path]:
    """Return the module's dotted name, and the folder that its import starts from."""
    path = path.resolve()
    names, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        names.insert(0, folder.name)
        folder = folder.parent
    return ".".join(names), folder


def _is_from(module: ModuleType, path: Path) -> bool:
    return module.__file__ is not None and path.samefile(module.__file__)


def _failed(target: Target, error: Exception) -> LoadError:
    return LoadError(f"{target.module} could not be imported: {type(error).__name__}: {error}")


def _hint(module: ModuleType) -> str:
    found = [
        name for name, value in vars(module).items() if not name.startswith("_") and _may_be_served(value)
    ]
    return f"; did you mean {' or '.join(found[:_CANDIDATES])}?" if found else "."


def _may_be_served(value: Any) -> bool:
    if isinstance(value, (ModuleType, type, FunctionType)):
        return is_asgi(value) and not isinstance(value, type)
    return is_asgi(value) or hasattr(value, "app") or hasattr(value, "run")


def _application(value: Any, target: Target) -> ASGIApp:
    if is_asgi(value):
        return value
    app: Any = getattr(value, "app", None)
    if is_asgi(app):
        return app
    from tmcp_serverless.handler import create_handler  # heavy, and only servers need it

    try:
        server_kind(value)
        return create_handler(value).app
    except TmcpError as error:
        raise LoadError(f"{target} cannot be served: {error}") from None


def is_asgi(value: object) -> bool:
    """Return `True` if this is an ASGI 3 application: a coroutine function of scope, receive and send."""
    if isinstance(value, type) or not callable(value):
        return False
    if not inspect.iscoroutinefunction(value) and not inspect.iscoroutinefunction(type(value).__call__):
        return False
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return False
    required = [
        each for each in parameters if each.default is each.empty and each.kind <= each.POSITIONAL_OR_KEYWORD
    ]
    return len(required) == _ASGI_PARAMETERS


if __name__ == "__main__":
    print(f"endpoint={endpoint_of(load(parse(sys.argv[1])))}")  # noqa: T201 - that is what is asked
