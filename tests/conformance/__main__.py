"""Run the official conformance suite against the everything-server; exit status 0 if every leg is complete.

A leg is complete when nothing failed, nothing warned, as many checks passed as have to, and what a server
without sessions would be let off with has been seen to succeed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.conformance.report import Row, print_heading, print_row
from tests.conformance.settings import SETTINGS, serving
from tests.conformance.suite import LEGS, install_suite, run_leg
from tests.support.node import NoNodeError
from tmcp_serverless.testing.postgres import EmbeddedPostgres

_INSTALL_SECONDS = 300.0
_RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    """Run what the command line asks for."""
    arguments = _parse()
    try:
        install_suite(seconds=_INSTALL_SECONDS)
    except NoNodeError as error:
        print(f"The suite cannot be installed: {error}", file=sys.stderr)
        return 2
    settings, legs = arguments.setting or list(SETTINGS), arguments.leg or [leg.name for leg in LEGS]
    with ExitStack() as stack:
        folder = arguments.output_dir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres_url = os.environ.get("TMCP_TEST_DATABASE_URL")
        if postgres_url is None:
            postgres_url = stack.enter_context(EmbeddedPostgres(durable=False)).dsn
        rows = [row for name in settings for row in _run(name, legs, folder / name, postgres_url)]
    if arguments.setting is None and arguments.leg is None:
        text = json.dumps([row.as_json() for row in rows], indent=2, ensure_ascii=False)
        _RESULTS.write_text(f"{text}\n")
        print(f"\nwritten to {_RESULTS}")
    incomplete = [row for row in rows if row.complaints]
    print(f"\n{len(rows) - len(incomplete)} of {len(rows)} legs complete")
    return 1 if incomplete else 0


def _parse() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.conformance", description=__doc__, formatter_class=form)
    parser.add_argument(
        "--setting",
        action="append",
        choices=list(SETTINGS),
        help="run in this one alone, and write no file; may be given again",
    )
    parser.add_argument(
        "--leg",
        action="append",
        choices=[leg.name for leg in LEGS],
        metavar="LEG",
        help="run this one alone, and write no file; may be given again. One of: "
        + ", ".join(leg.name for leg in LEGS),
    )
    parser.add_argument(
        "--output-dir", type=Path, help="keep everything that the suite writes in this folder"
    )
    return parser.parse_args()


def _run(name: str, legs: list[str], folder: Path, postgres_url: str) -> list[Row]:
    """Run the legs in a setting."""
    setting, rows = SETTINGS[name], list[Row]()
    print_heading(name, setting.title)
    with serving(setting, postgres_url) as url:
        for leg in LEGS:
            if leg.name in legs:
                run = run_leg(leg, url, folder / leg.name)
                rows.append(Row.of(run, name))
                print_row(rows[-1], run.seconds)
    return rows


if __name__ == "__main__":
    sys.exit(main())
