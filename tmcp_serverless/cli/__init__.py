"""The command `tmcp-serverless`. Importing this imports nothing else: the commands load their own modules."""

import sys
from importlib.util import find_spec

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    if find_spec("click") is None:
        sys.stderr.write("The command line needs click: run `pip install 'tmcp-serverless[cli]'`.\n")
        sys.exit(2)
    from tmcp_serverless.cli.commands import commands  # needs click

    commands(prog_name="tmcp-serverless")
