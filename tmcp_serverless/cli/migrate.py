"""`tmcp-serverless migrate`: the tables, made or brought up to date."""

from __future__ import annotations

import asyncio

import click

from tmcp_serverless.cli.commands import CommandError
from tmcp_serverless.errors import TmcpError

__all__ = ["migrate"]


@click.command()
@click.option("--print", "print_only", is_flag=True, help="Print the SQL, and touch no database.")
@click.option("--database-url", metavar="URL", envvar="TMCP_DATABASE_URL", help="Default: TMCP_DATABASE_URL.")
def migrate(database_url: str | None, *, print_only: bool) -> None:
    """Create the tables, or bring them up to this release."""
    from tmcp_serverless.postgres import schema  # noqa: PLC0415  # imports the driver

    if print_only:
        click.echo(schema.script(), nl=False)
        return
    if not database_url:
        raise CommandError("There is no database: set TMCP_DATABASE_URL, or pass --database-url.")
    try:
        applied = asyncio.run(schema.migrate(database_url))
    except (TmcpError, OSError) as error:
        raise click.ClickException(str(error)) from None
    for name in applied:
        click.echo(f"Applied {name}.")
    if not applied:
        click.echo("Everything is up to date.")
