"""Measure, print the table, and write `benchmarks/results.json`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.awake import awake
from benchmarks.cold_start import measure_cold_start
from benchmarks.database import postgres_server
from benchmarks.delivery import measure_delivery
from benchmarks.fan_out import measure_broadcast, measure_subscribers
from benchmarks.idle_streams import measure_footprint, measure_heartbeats
from benchmarks.lambda_stream import measure_lambda_delivery
from benchmarks.row import NotMeasuredError
from benchmarks.setting import Setting
from benchmarks.table import print_heading, print_row
from benchmarks.warm_call import measure_latency, measure_round_trips

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from benchmarks.row import Row

_RESULTS = Path(__file__).parent / "results.json"

_BENCHMARKS: dict[str, Callable[[Setting], Awaitable[list[Row]]]] = {
    "latency": measure_latency,
    "round-trips": measure_round_trips,
    "delivery": measure_delivery,
    "lambda-delivery": measure_lambda_delivery,
    "broadcast": measure_broadcast,
    "subscribers": measure_subscribers,
    "cold-start": measure_cold_start,
    "footprint": measure_footprint,
    "heartbeats": measure_heartbeats,
}

_AWAKE = {"latency"}
"""What is measured with all CPUs kept awake; what waits for a disk is not, for it would wait for a tick."""


def main() -> None:
    """Run what the command line asks for."""
    arguments = _parse()
    logging.basicConfig(level=logging.ERROR)
    if arguments.pin:
        # What is started from here on inherits it, the embedded Postgres too.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rounds = arguments.rounds or (10 if arguments.quick else 40)
    names = arguments.only or list(_BENCHMARKS)
    rows = asyncio.run(_run(names, rounds=rounds, quick=arguments.quick, asleep=arguments.asleep))
    # A file that does not say how it was made holds nothing but whole, plain runs.
    if arguments.only is None and not (arguments.quick or arguments.pin or arguments.asleep):
        _RESULTS.write_text(json.dumps([row.as_json() for row in rows], indent=2, ensure_ascii=False) + "\n")
        print(f"\nwritten to {_RESULTS}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        choices=list(_BENCHMARKS),
        metavar="NAME",
        help=f"run this one alone, and write no file; may be given again. One of: {', '.join(_BENCHMARKS)}",
    )
    parser.add_argument("--rounds", type=int, help="rounds of alternating blocks (default: 40; quick: 10)")
    parser.add_argument(
        "--pin",
        action="store_true",
        help="run on one CPU, with the Postgres that is started here: without what waking another CPU costs",
    )
    parser.add_argument(
        "--asleep",
        action="store_true",
        help="let CPUs go to sleep: what waking them costs is then part of every round trip",
    )
    parser.add_argument(
        "--quick", action="store_true", help="smaller sizes: to see that it works, not to quote"
    )
    return parser.parse_args()


async def _run(names: Sequence[str], *, rounds: int, quick: bool, asleep: bool) -> list[Row]:
    rows: list[Row] = []
    print_heading()
    async with postgres_server() as url:
        setting = Setting(url, rounds=rounds, quick=quick)
        for name in names:
            try:
                with awake(wanted=name in _AWAKE and not asleep):
                    measured = await _BENCHMARKS[name](setting)
            except NotMeasuredError as reason:
                print(f"{name}: not measured: {reason}")
                continue
            for row in measured:
                print_row(row)
            rows += measured
    return rows


if __name__ == "__main__":
    main()
