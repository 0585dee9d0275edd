"""`tmcp-serverless doctor`: checks that the configured database meets the kit's needs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tmcp_serverless.cli.commands import database_url_option, run, settings_for
from tmcp_serverless.errors import TmcpError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tmcp_serverless.config import Settings

__all__ = ["doctor"]

_MARKS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


@click.command()
@database_url_option
def doctor(database_url: str | None) -> None:
    """Say what is configured, what works, and what to do about the rest.

    Ends with 1 where something is wrong, with 0 where there is nothing but notes.
    """
    settings = settings_for(database_url)
    click.echo(f"ok     settings: {', '.join(_shown(settings))}")
    sound = True
    for grade, about, said in _about_settings(settings):
        click.echo(f"{_MARKS[grade]}  {about}: {said}")
        sound = sound and grade != "wrong"
    if not run(_examine(settings)) or not sound:
        sys.exit(1)


def _shown(settings: Settings) -> list[str]:
    """Return the given settings, without the values of those that may hold a secret."""
    return [
        f"{field.alias or name}={getattr(settings, name)!r}" if field.repr else f"{name} is set"
        for name, field in type(settings).model_fields.items()
        if name in settings.model_fields_set
    ]


def _about_settings(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Check without the database: variables that nothing reads, and the needs of logs and metrics."""
    from tmcp_serverless.config import unknown_variables  # heavy, and --help does without
    from tmcp_serverless.observability import observer_for  # the same

    for sentence in unknown_variables():
        yield "note", "environment", sentence
    try:
        observer_for(settings)
    except TmcpError as error:
        yield "wrong", "logs and metrics", str(error)


async def _examine(settings: Settings) -> bool:
    from tmcp_serverless.postgres.connect.configured import database_for  # imports the driver
    from tmcp_serverless.postgres.operate.diagnosis import diagnose  # the same

    sound = True
    async for finding in diagnose(database_for(settings), settings):
        click.echo(f"{_MARKS[finding.grade]}  {finding.about}: {finding.said}")
        sound = sound and finding.grade != "wrong"
    return sound
