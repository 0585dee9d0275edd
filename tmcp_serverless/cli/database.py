"""`tmcp-serverless migrate` and `sweep`: the tables of the configured database, and their expired rows."""

from __future__ import annotations

import click

from tmcp_serverless import maintenance
from tmcp_serverless.cli.commands import CommandError, database_url_option, run, settings_for
from tmcp_serverless.errors import TmcpError

__all__ = ["migrate", "sweep"]


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
        from tmcp_serverless.config import Settings  # heavy, and --help does without
        from tmcp_serverless.postgres import schema  # imports the driver

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
