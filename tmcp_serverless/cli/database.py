"""Parts shared by the commands that work on the configured database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from tmcp_serverless.cli.commands import CommandError
from tmcp_serverless.errors import TmcpError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tmcp_serverless.config import Settings

__all__ = ["database_url_option", "run", "settings_for"]

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
    from tmcp_serverless.config import Settings  # noqa: PLC0415 - heavy, and --help does without
    from tmcp_serverless.postgres.configured import settings_at  # noqa: PLC0415 - the same

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
