"""The group of commands, each loaded on its first use, and parts that the commands share."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tmcp_serverless.errors import TmcpError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tmcp_serverless.config import Settings

__all__ = ["CommandError", "commands", "database_url_option", "is_given", "run", "settings_for"]

_COMMANDS = {
    "dev": "tmcp_serverless.cli.dev",
    "migrate": "tmcp_serverless.cli.database",
    "sweep": "tmcp_serverless.cli.database",
    "doctor": "tmcp_serverless.cli.doctor",
    "sessions": "tmcp_serverless.cli.sessions",
}
"""Names of the modules; the command is the module's attribute of its own name."""


class CommandError(click.ClickException):
    """An error of one sentence for standard error, and the exit code 2."""

    exit_code = 2


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if (module := _COMMANDS.get(cmd_name)) is None:
            return None
        return getattr(import_module(module), cmd_name)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tmcp-serverless")
def commands() -> None:
    """Run a Python MCP server where every request may land on another process."""


database_url_option = click.option(
    "--database-url",
    metavar="URL",
    help="Another database than TMCP_DATABASE_URL and the like say. TMCP_DATABASE_NAME and TMCP_LISTEN_URL "
    "are passed over then, a secret or parameter where the URL has a user, IAM where it has a password.",
)


def settings_for(database_url: str | None) -> Settings:
    """Return the settings of the environment; if a URL is given, for the database that it names.

    Raises:
        CommandError: There is no database, or a setting is wrong.
    """
    from tmcp_serverless.config import Settings  # heavy, and --help does without
    from tmcp_serverless.postgres.connect.configured import settings_at  # the same

    try:
        settings = settings_at(database_url, setting="--database-url") if database_url else Settings.load()
    except TmcpError as error:
        raise CommandError(str(error)) from None
    if not settings.has_database:
        raise CommandError("There is no database: set TMCP_DATABASE_URL, or pass --database-url.")
    return settings


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Return the work's result, or end the command with one sentence."""
    try:
        return asyncio.run(work)
    except (TmcpError, OSError) as error:
        raise click.ClickException(str(error)) from None


def is_given(context: click.Context, name: str) -> bool:
    """Return true if an option is on the command line; a wrapper in the environment may be for others."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE
