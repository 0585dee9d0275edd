"""Commands that work on the configured database: `migrate` and `sweep`, and parts that others share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from tmcp_serverless import maintenance
from tmcp_serverless.cli.commands import CommandError
from tmcp_serverless.cli.options import database_url_option
from tmcp_serverless.errors import TmcpError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tmcp_serverless.config import Settings

__all__ = ["migrate", "run", "settings_for", "sweep"]


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


@click.command()
@click.option(
    "--print",
    "print_only",
    is_flag=True,
    help="Print the SQL, for TMCP_SCHEMA or the schema `public`, and touch no database.",
)
@database_url_option
def migrate(database_url: str | None, *, print_only: bool) -> None:
    """Create the tables, or bring them up to this release."""
    if print_only:
        from tmcp_serverless.config import Settings  # noqa: PLC0415 - heavy, and --help does without
        from tmcp_serverless.postgres import schema  # noqa: PLC0415 - imports the driver

        try:
            place = Settings.load().schema_name or "public"
        except TmcpError as error:
            raise CommandError(str(error)) from None
        click.echo(schema.script(schema=place), nl=False)
        return
    applied: list[str] = run(maintenance.migrate(settings_for(database_url)))
    for name in applied:
        click.echo(f"Applied {name}.")
    if not applied:
        click.echo("Everything is up to date.")


@click.command()
@click.option(
    "--limit",
    type=click.IntRange(1),
    help="Of each kind, at the most: sessions, leases, messages, mailboxes.  [default: all]",
)
@database_url_option
def sweep(database_url: str | None, *, limit: int | None) -> None:
    """Remove what has expired. Nothing expired counts as live, swept or not."""
    removed, more = run(maintenance.sweep_database(settings_for(database_url), limit=limit))
    rest = " There may be more: this was the limit." if more else ""
    click.echo(f"Removed {removed} row{'' if removed == 1 else 's'}.{rest}")
