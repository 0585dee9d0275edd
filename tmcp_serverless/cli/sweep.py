"""`tmcp-serverless sweep`: removes expired rows now."""

from __future__ import annotations

import click

from tmcp_serverless import maintenance
from tmcp_serverless.cli.database import database_url_option, run, settings_for

__all__ = ["sweep"]


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
