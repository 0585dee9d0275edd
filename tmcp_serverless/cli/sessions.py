"""`tmcp-serverless sessions`: lists the sessions, or ends one."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from tmcp_serverless.cli.commands import database_url_option, run, settings_for
from tmcp_serverless.sessions.addresses import is_session_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tmcp_serverless.config import Settings
    from tmcp_serverless.postgres.operate.overview import SessionSummary

__all__ = ["sessions"]


def _checked(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    from tmcp_serverless.forms import check_namespace  # only where one is given

    try:
        return None if value is None else check_namespace(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_HEADINGS = ("NAMESPACE", "SESSION", "CLIENT", "REVISION", "AGE", "LAST USED", "RUNNING", "STREAM")


_namespace_option = click.option(
    "--namespace", metavar="NAME", callback=_checked, help="One server's only.  [default: all]"
)


@click.group(invoke_without_command=True)
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object for each session, on a line of its own."
)
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="How many at the most.")
@_namespace_option
@database_url_option
@click.pass_context
def sessions(
    context: click.Context, database_url: str | None, *, namespace: str | None, as_json: bool, limit: int
) -> None:
    """List the sessions that have not expired, the last used first."""
    context.obj = database_url, namespace
    if context.invoked_subcommand is not None:
        return
    found: list[SessionSummary] = run(_list(settings_for(database_url), limit, namespace))
    if as_json:
        for session in found:
            click.echo(json.dumps(asdict(session)))
        return
    rows = [_row(session) for session in found]
    for row in _columns([_HEADINGS, *rows]) if rows else ["There are no sessions."]:
        click.echo(row)


# An id may begin with a hyphen, or with `-h`, and be no option for that.
@sessions.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("id")
@_namespace_option
@database_url_option
@click.pass_obj
def delete(
    group: tuple[str | None, str | None], id: str, database_url: str | None, *, namespace: str | None
) -> None:
    """End the session ID, and its streams wherever they are, as its client could."""
    settings = settings_for(database_url or group[0])
    # A text that is no session's id may be the address of a topic of all sessions. That would be deleted with
    # everything below it.
    found: list[str] = run(_namespaces_of(settings, id)) if is_session_id(id) else []
    chosen = [each for each in found if each == (namespace or group[1] or each)]
    if not chosen:
        raise click.ClickException(f"There is no session {_printable(id)}.")
    if len(chosen) > 1:
        several = ", ".join(map(repr, chosen))
        raise click.ClickException(
            f"There are sessions of this id in {several}: choose one with --namespace."
        )
    run(_delete(settings, id, chosen[0]))
    click.echo("Deleted.")


async def _list(settings: Settings, limit: int, namespace: str | None) -> list[SessionSummary]:
    from tmcp_serverless.postgres.connect.configured import database_for  # imports the driver
    from tmcp_serverless.postgres.operate.overview import list_sessions  # the same

    async with database_for(settings) as database:
        return await list_sessions(database, limit=limit, namespace=namespace)


async def _namespaces_of(settings: Settings, id: str) -> list[str]:
    from tmcp_serverless.postgres.connect.configured import database_for  # imports the driver
    from tmcp_serverless.postgres.operate.overview import namespaces_of  # the same

    async with database_for(settings) as database:
        return await namespaces_of(database, id)


async def _delete(settings: Settings, id: str, namespace: str) -> None:
    from tmcp_serverless.managers import managers_for  # imports the driver

    # No tables are created for a deletion.
    there = {"create_tables": False, "namespace": namespace}
    async with managers_for(settings.model_copy(update=there)) as managers:
        await managers.info.delete(id)
        await managers.streams.delete(id)


def _row(session: SessionSummary) -> tuple[str, ...]:
    return (
        _printable(session.namespace),
        session.id,
        _printable(session.client) or "-",
        session.protocol_version,
        _span(session.age_seconds),
        f"{_span(session.idle_seconds)} ago",
        str(session.running or "-"),
        _printable(session.stream_at or "-"),
    )


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _span(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return "0 s"


def _printable(text: str) -> str:
    """Return the client's own text without characters that a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)[:60]
