"""`tmcp-serverless migrate`: creates the tables, or brings them up to date."""

from __future__ import annotations

import click

from tmcp_serverless import maintenance
from tmcp_serverless.cli.commands import CommandError
from tmcp_serverless.cli.database import database_url_option, run, settings_for
from tmcp_serverless.errors import TmcpError

__all__ = ["migrate"]


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
