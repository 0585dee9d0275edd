"""`tmcp-serverless dev`: a deployment in small on this machine, with a database if there is none."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import click

from tmcp_serverless.cli.commands import CommandError, is_given
from tmcp_serverless.errors import ConfigurationError, TmcpError
from tmcp_serverless.hosts.descriptors import raise_descriptor_limit

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Generator

    from tmcp_serverless.dev.cluster import Cluster
    from tmcp_serverless.dev.lambda_emulator.serving import LambdaOptions

__all__ = ["dev", "lambda_options"]

Command = TypeVar("Command", bound="Callable[..., Any]")

_LOOK_SECONDS = 0.5

_CONNECT = """\
MCP Inspector: npx @modelcontextprotocol/inspector   (transport: Streamable HTTP, URL: {url})
Python client:

    from mcp import Client

    async with Client("{url}", mode="legacy") as client:
        print(await client.list_tools())

{served} on {url}. Ctrl-C ends everything."""


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


@click.command()
@click.argument("target", metavar="MODULE:ATTR")
@click.option("--instances", "-n", default=1, show_default=True, type=click.IntRange(1, 32), help="How many.")
@click.option(
    "--port", "-p", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 is any free."
)
@click.option("--path", metavar="PATH", help="Where the MCP endpoint is: TMCP_PATH, by default /mcp.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--database-url",
    metavar="URL",
    help="Default: what TMCP_DATABASE_URL and the like say, else a PostgreSQL of our own for the time that "
    "this runs. With it, these are passed over as by the other commands.",
)
@click.option("--amnesia", is_flag=True, help="Every request in a process that has served nothing before.")
@click.option("--verbose", "-v", is_flag=True, help="Log every request.")
@click.option("--lambda", "on_lambda", is_flag=True, help="From an emulator of Lambda.")
@lambda_options
@click.pass_context
def dev(
    context: click.Context,
    target: str,
    *,
    instances: int,
    port: int,
    path: str | None,
    host: str,
    database_url: str | None,
    amnesia: bool,
    verbose: bool,
    on_lambda: bool,
    **options: Unpack[LambdaOptions],
) -> None:
    """Serve MODULE:ATTR from several processes behind a round robin, as a deployment would.

    MODULE is a module or the path of a .py file. ATTR is a server (MCPServer, lowlevel Server, FastMCP), a
    handler made by create_handler, or an ASGI application.

    With --lambda, ATTR is a handler or a server. It runs in sandboxes that serve one request at a time, are
    frozen in between, and are killed at the deadline; answers arrive as they are written.
    """
    _check_machine()
    _check_options(context, options, on_lambda=on_lambda, needs_instances=amnesia or instances > 1)
    from tmcp_serverless.dev.balancer import listen  # only this command needs it
    from tmcp_serverless.dev.cluster import Cluster  # the same
    from tmcp_serverless.dev.database import instances_database  # the same
    from tmcp_serverless.dev.loading import parse  # the same

    with _until_interrupted(), _in_one_sentence(), contextlib.ExitStack() as stack:
        parse(target, folder=options["task_root"])
        raise_descriptor_limit()
        listener = stack.enter_context(listen(host, port))
        environment = {
            **instances_database(database_url, stack, tell=click.echo),
            **({"TMCP_PATH": path} if path else {}),
        }
        if on_lambda:
            _serve_lambda(target, listener, environment, options, verbose=verbose, path=path)
            return
        cluster = stack.enter_context(
            Cluster(
                target,
                instances=instances,
                amnesia=amnesia,
                env=environment,
                listener=listener,
                verbose=verbose,
                capture=False,
                say=_say,
            )
        )
        _wait(cluster, _served(target, instances, amnesia=amnesia), path=path)


def _serve_lambda(
    target: str,
    listener: socket.socket,
    environment: dict[str, str],
    options: LambdaOptions,
    *,
    verbose: bool,
    path: str | None,
) -> None:
    from tmcp_serverless.dev.lambda_emulator.serving import serve_lambda  # needs uvicorn

    served = f"{target}, as a Lambda function with up to {options['sandboxes']} sandboxes,"
    serve_lambda(
        target,
        listener=listener,
        environment=environment,
        options=options,
        verbose=verbose,
        say=_say,
        ready=lambda url, endpoint: _announce(url, served, path=endpoint or path or ""),
        stopping=_say_stopping,
    )


def _check_options(
    context: click.Context, options: LambdaOptions, *, on_lambda: bool, needs_instances: bool
) -> None:
    """Refuse options of instances with `--lambda`, and options of sandboxes without it."""
    if on_lambda and needs_instances:
        raise CommandError("--lambda starts sandboxes as they are needed: without --instances or --amnesia.")
    if not on_lambda:
        _refuse_given(context, options)
    elif options["task_root"] is None and is_given(context, "exec_wrapper"):
        raise CommandError("--exec-wrapper goes with --task-root: without a package, the kit's own is run.")


def _check_machine() -> None:
    if os.name != "posix":
        raise CommandError("The local cluster needs Linux or macOS (on Windows: WSL).")
    if importlib.util.find_spec("uvicorn") is None:
        raise CommandError("The local cluster needs uvicorn: run `pip install 'tmcp-serverless[local]'`.")


@contextlib.contextmanager
def _until_interrupted() -> Generator[None]:
    """Make SIGTERM and SIGINT the same as Ctrl-C: contexts are left in the opposite order."""
    # SIGINT too: a shell starts background processes with that signal ignored.
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextlib.contextmanager
def _in_one_sentence() -> Generator[None]:
    try:
        yield
    except (TmcpError, OSError) as error:
        raise CommandError(str(error)) from None


def _refuse_given(context: click.Context, options: LambdaOptions) -> None:
    """Refuse the options of Lambda alone; an exec wrapper may be in the environment for other reasons."""
    for name in options:
        if is_given(context, name):
            raise CommandError(f"--{name.replace('_', '-')} goes with --lambda.")


def _served(target: str, instances: int, *, amnesia: bool) -> str:
    if amnesia:
        return f"{target}, every request in a process of its own,"
    return f"{target}, from {instances} process{'es' if instances > 1 else ''},"


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)


def _say_stopping() -> None:
    click.echo("\nStopping.")


def _announce(url: str, served: str, *, path: str = "") -> None:
    path = path or os.environ.get("TMCP_PATH") or "/mcp"
    click.echo(_CONNECT.format(url=url + path, served=served))


def _wait(cluster: Cluster, served: str, *, path: str | None) -> None:
    _announce(cluster.url, served, path=cluster.path or path or "")
    try:
        while cluster.running(_LOOK_SECONDS):
            pass
    except KeyboardInterrupt:
        _say_stopping()
        return
    raise cluster.failure or ConfigurationError("The cluster has ended.")
