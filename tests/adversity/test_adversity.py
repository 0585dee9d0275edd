"""The short form of the run: some faults of every kind that does not take long."""

from __future__ import annotations

import pytest

from tests.adversity.pooler import find_pooler
from tests.adversity.rig import Order, run

SEED = 220
"""A plan that kills early: a call whose instance dies is given up after the lease of 10 s, which the run then
waits for. Every kind of fault with a place in the short form is in it, as in any plan."""

LIMIT_SECONDS = 100.0


@pytest.mark.slow
@pytest.mark.timeout(115)
async def test_nothing_is_lost_whatever_dies() -> None:
    await _run(Order(SEED, events=1_000, faults=20, seconds=17, limit_seconds=LIMIT_SECONDS, sessions=6))


@pytest.mark.slow
@pytest.mark.timeout(115)
@pytest.mark.skipif(find_pooler() is None, reason="there is no pgbouncer here (apt-get install pgbouncer)")
async def test_nothing_is_lost_behind_a_pooler_that_has_no_listen() -> None:
    order = Order(SEED, events=600, faults=16, seconds=12, limit_seconds=LIMIT_SECONDS, poll=True, sessions=6)
    await _run(order)


async def _run(order: Order) -> None:
    reckoning = await run(order, print)
    print(reckoning.details(), reckoning.figures(), sep="\n")
    assert reckoning.sound, reckoning.details()
    assert reckoning.events >= order.events
    assert reckoning.faults == order.faults


async def test_a_run_that_ends_early_has_figures_and_is_not_sound() -> None:
    reckoning = await run(
        Order(SEED, events=1_000, faults=20, seconds=17, limit_seconds=3, sessions=2), print
    )
    assert not reckoning.sound
    assert "ended early: the run was stopped after 3 s" in reckoning.details()
    assert f"seed={SEED} events=" in reckoning.figures()
