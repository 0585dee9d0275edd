"""Serving from the emulator until Ctrl-C: `tmcp-serverless dev --lambda`."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from tmcp_serverless.dev.lambda_emulator.emulator import LambdaEmulator
from tmcp_serverless.dev.lambda_emulator.function import Function
from tmcp_serverless.dev.lambda_emulator.sandbox import InitializationError
from tmcp_serverless.dev.loading import ask_endpoint, lambda_name, parse
from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.hosts.descriptors import LoopErrors

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

__all__ = ["LambdaOptions", "serve_lambda"]


class LambdaOptions(TypedDict):
    """Options of a function and its sandboxes."""

    timeout: float
    sandboxes: int
    front_door: str
    task_root: Path | None
    """A deployed package with all of its dependencies; `None`: this environment."""

    exec_wrapper: str | None
    """`AWS_LAMBDA_EXEC_WRAPPER`, for a package; without one, the kit's own wrapper starts."""


def serve_lambda(
    target: str,
    *,
    listener: socket.socket,
    environment: Mapping[str, str],
    options: LambdaOptions,
    verbose: bool,
    say: Callable[[str], None],
    ready: Callable[[str, str], None],
    stopping: Callable[[], None],
) -> None:
    """Serve a handler from the emulator until SIGINT or SIGTERM, with these variables over ours.

    `ready` is called when a first sandbox waits. Its arguments are the address, and the endpoint's path if it
    is known. `stopping` is called when the end begins.

    Raises:
        TmcpError: The handler cannot be served.
    """
    function = _function(target, environment, options, verbose=verbose)
    emulator = LambdaEmulator(
        function,
        sandboxes=options["sandboxes"],
        front_door=options["front_door"],
        listener=listener,
        say=say,
    )
    try:
        asyncio.run(
            _serve(emulator, ready=lambda url: ready(url, _endpoint(target, function)), stopping=stopping)
        )
    except InitializationError as error:
        raise ConfigurationError(f"{error}{_hint(str(error), function)}") from None


def _endpoint(target: str, function: Function) -> str:
    """Return the endpoint's path; it is not known here for a package that brings its own libraries."""
    if function.isolated:
        return function.environment.get("TMCP_PATH", "")
    return ask_endpoint(target, folder=Path.cwd(), environment=function.environment)


def _hint(failure: str, function: Function) -> str:
    """Return a sentence about a module that is on `PYTHONPATH`: Lambda does not read that variable."""
    missing = re.search(r"No module named '([^']+)'", failure)
    if missing is None:
        return ""
    folders = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    name = missing[1].partition(".")[0]
    found = PathFinder.find_spec(name, folders) if folders else None
    if found is None:
        return ""
    place = found.origin or ", ".join(found.submodule_search_locations or ())
    seen = f". PYTHONPATH has it ({place}), and Lambda does not see that"
    return f"{seen}: copy {name} to {function.task_root}, or install it"


def _function(
    target: str, environment: Mapping[str, str], options: LambdaOptions, *, verbose: bool
) -> Function:
    given = options["task_root"]
    folder = (given or Path.cwd()).resolve()
    handler, task_root = lambda_name(parse(target, folder=folder), folder=folder)
    return Function(
        handler=handler,
        task_root=folder if given else task_root,
        timeout_seconds=options["timeout"],
        environment={
            **environment,
            **({} if verbose or "TMCP_LOG_FORMAT" in os.environ else {"TMCP_LOG_FORMAT": "plain"}),
            **({} if given else {"PYTHONPATH": str(folder)}),  # as it is for `dev` without Lambda
        },
        isolated=given is not None,
        exec_wrapper=options["exec_wrapper"] if given else None,
    )


async def _serve(
    emulator: LambdaEmulator, *, ready: Callable[[str], None], stopping: Callable[[], None]
) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(LoopErrors())
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    async with emulator:
        waiting = asyncio.create_task(told.wait())
        warming = asyncio.create_task(emulator.warm())
        await asyncio.wait({waiting, warming}, return_when=asyncio.FIRST_COMPLETED)
        if warming.done():
            warming.result()
            ready(emulator.url)
            await waiting
        warming.cancel()
        await asyncio.wait({warming})
        stopping()
