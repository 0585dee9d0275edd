"""The group of commands. Each is loaded on its first use."""

from __future__ import annotations

from importlib import import_module

import click

__all__ = ["CommandError", "commands"]

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
