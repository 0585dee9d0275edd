"""`tmcp-serverless dev --lambda`: its options, and serving from the emulator until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import click
from click.core import ParameterSource

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.hosts.descriptors import LoopErrors

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from tmcp_serverless.dev.lambda_emulator import Function, LambdaEmulator

__all__ = ["LambdaOptions", "lambda_options", "serve_lambda"]

Command = TypeVar("Command", bound="Callable[..., Any]")


class LambdaOptions(TypedDict):
    """Names and types of the options that `lambda_options` adds."""

    timeout: float
    sandboxes: int
    front_door: str
    task_root: Path | None
    exec_wrapper: str | None


def lambda_options(command: Command) -> Command:
    """Add the options that go with `--lambda`."""
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    for option in (
        click.option(
            "--exec-wrapper",
            metavar="PATH",
            envvar="AWS_LAMBDA_EXEC_WRAPPER",
            help="With --task-root: AWS_LAMBDA_EXEC_WRAPPER, such as /var/task/streaming.",
        ),
        click.option(
            "--task-root",
            type=folder,
            help="With --lambda: a deployed package, with all of its dependencies.",
        ),
        click.option(
            "--front-door",
            type=click.Choice(["function-url", "rest-api"]),
            default="function-url",
            show_default=True,
            help="With --lambda: whose events the function gets.",
        ),
        click.option(
            "--sandboxes",
            default=10,
            show_default=True,
            type=click.IntRange(1, 100),
            help="With --lambda: the concurrency limit.",
        ),
        click.option(
            "--timeout",
            default=60.0,
            show_default=True,
            type=click.FloatRange(1, 900),
            help="With --lambda: seconds until an invocation is killed.",
        ),
    ):
        command = option(command)
    return command


def serve_lambda(
    target: str,
    *,
    listener: socket.socket,
    environment: Mapping[str, str],
    options: LambdaOptions,
    verbose: bool,
    say: Callable[[str], None],
    ready: Callable[[str, str], None],
) -> None:
    """Serve a handler from the emulator until SIGINT or SIGTERM, with these variables over ours.

    `ready` is called when a first sandbox waits. Its arguments are the address, and the endpoint's path if it
    is known.

    Raises:
        TmcpError: The handler cannot be served.
    """
    from tmcp_serverless.dev.lambda_emulator import LambdaEmulator  # noqa: PLC0415 - needs uvicorn
    from tmcp_serverless.dev.lambda_emulator.sandbox import InitializationError  # noqa: PLC0415 - the same

    function = _function(target, environment, options, verbose=verbose)
    emulator = LambdaEmulator(
        function,
        sandboxes=options["sandboxes"],
        front_door=options["front_door"],
        listener=listener,
        say=say,
    )
    try:
        asyncio.run(_serve(emulator, lambda url: ready(url, _endpoint(target, function))))
    except InitializationError as error:
        raise ConfigurationError(f"{error}{_hint(str(error), function)}") from None


def _endpoint(target: str, function: Function) -> str:
    """Return the endpoint's path; it is not known here for a package that brings its own libraries."""
    if function.isolated:
        return function.environment.get("TMCP_PATH", "")
    from tmcp_serverless.dev.endpoint import ask_endpoint  # noqa: PLC0415 - only this command needs it

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
    from tmcp_serverless.dev.lambda_emulator import Function  # noqa: PLC0415 - the same
    from tmcp_serverless.dev.loading import lambda_name, parse  # noqa: PLC0415 - the same

    given = options["task_root"]
    if given is None and _is_given("exec_wrapper"):
        raise ConfigurationError(
            "--exec-wrapper goes with --task-root: without a package, the kit's own is run."
        )
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


def _is_given(name: str) -> bool:
    """Return `True` if an option is on the command line: a wrapper in the environment may be for others."""
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(name) is ParameterSource.COMMANDLINE


async def _serve(emulator: LambdaEmulator, ready: Callable[[str], None]) -> None:
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
        click.echo("\nStopping.")
