"""Options of the commands: the database of most, and those of `dev --lambda`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["database_url_option", "is_given", "lambda_options"]

Command = TypeVar("Command", bound="Callable[..., Any]")

database_url_option = click.option(
    "--database-url",
    metavar="URL",
    help="Another database than TMCP_DATABASE_URL and the like say. TMCP_DATABASE_NAME and TMCP_LISTEN_URL "
    "are passed over then, a secret or parameter where the URL has a user, IAM where it has a password.",
)


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


def is_given(context: click.Context, name: str) -> bool:
    """Return true if an option is on the command line; a wrapper in the environment may be for others."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE
