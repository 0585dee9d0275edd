"""`tmcp-serverless migrate`: the tables, made or brought up to date."""

from __future__ import annotations

import click

from tmcp_serverless import maintenance
from tmcp_serverless.cli.database import database_url_option, run, settings_for

__all__ = ["migrate"]


@click.command()
@click.option("--print", "print_only", is_flag=True, help="Print the SQL, and touch no database.")
@database_url_option
def migrate(database_url: str | None, *, print_only: bool) -> None:
    """Create the tables, or bring them up to this release."""
    if print_only:
        from tmcp_serverless.postgres import schema  # noqa: PLC0415 - imports the driver

        click.echo(schema.script(), nl=False)
        return
    applied: list[str] = run(maintenance.migrate(settings_for(database_url)))
    for name in applied:
        click.echo(f"Applied {name}.")
    if not applied:
        click.echo("Everything is up to date.")
