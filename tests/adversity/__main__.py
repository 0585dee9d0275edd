"""`python -m tests.adversity`: the whole run. Its last line is its figures; exit status 0 if all is well."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
from pathlib import Path

from tests.adversity.rig import Order, run


def main() -> int:
    """Run it as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.adversity", description=__doc__)
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--seed", type=int, default=seed, help="repeats a run (environment: SEED)")
    parser.add_argument("--events", type=int, default=10_000, help="at least so many (default: 10000)")
    parser.add_argument("--faults", type=int, default=200, help="so many (default: 200)")
    parser.add_argument("--seconds", type=float, help="in which the events are to be sent")
    parser.add_argument("--poll", action="store_true", help="poll through pgbouncer in transaction mode")
    parser.add_argument("--timeline", type=Path, help="a file for everything that happened")
    given = parser.parse_args()
    order = Order(
        given.seed,
        events=given.events,
        faults=given.faults,
        seconds=given.seconds or max(10.0, given.faults * 2.0),
        poll=given.poll,
    )
    print(f"seed {order.seed}; repeat with: python -m tests.adversity --seed {order.seed}", flush=True)
    reckoning = asyncio.run(run(order, lambda text: print(text, flush=True)))
    if given.timeline is not None:
        given.timeline.write_text(reckoning.timeline, encoding="utf-8")
    if not reckoning.sound:
        print(f"The instances' output ends with:\n{reckoning.output[-6_000:]}")
    print(reckoning.details())
    print(reckoning.figures())
    return 0 if reckoning.sound else 1


if __name__ == "__main__":
    sys.exit(main())
