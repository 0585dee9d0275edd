"""`python -m tests.fuzz`: the whole run. Its last line is its figures; exit status 0 if all is well."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys

from tests.fuzz.rig import Order, run


def main() -> int:
    """Run it as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--seed", type=int, default=seed, help="repeats a run (environment: SEED)")
    parser.add_argument("--inputs", type=int, default=100_000, help="so many (default: 100000)")
    parser.add_argument("--workers", type=int, default=32, help="inputs at once (default: 32)")
    given = parser.parse_args()
    order = Order(given.seed, inputs=given.inputs, workers=given.workers)
    print(f"seed {order.seed}; repeat with: make fuzz ARGS='--seed {order.seed}'", flush=True)
    figures = asyncio.run(run(order, _say))
    if details := figures.details():
        print(details)
    print(figures.line())
    return 0 if figures.is_sound else 1


def _say(text: str) -> None:
    if sys.stdout.isatty() and text[:1].isdigit():
        print(f"\r\033[K{text}", end="", flush=True)
    else:
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
