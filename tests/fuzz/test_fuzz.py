"""A short run of the fuzzer, and the proof that it finds what it looks for."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.fuzz.corpus import Corpus, Session
from tests.fuzz.findings import Figures
from tests.fuzz.recipes import INSTANCES, Recipes
from tests.fuzz.rig import Order, run
from tests.fuzz.statements import LOGGING, Statements, logged
from tests.fuzz.watchdog import read_pauses
from tests.support.waiting import eventually
from tmcp_serverless.testing.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from tests.fuzz.inputs import Input

SEED = 12
INPUTS = 2_000
TOKENS = {"alice": "token-a", "bob": "token-b"}
LINE = re.compile(
    r"inputs=\d+ seed=\d+ statuses=\{\S*\} 5xx=\d+ hangs=\d+ leaks=\d+ foreign=\d+ secrets=\d+ "
    r"longest_pause_ms=\d+ memory_mb=\d+\b.*"
)
ALWAYS_SERVED = {
    "initialize",
    "call",
    "request",
    "notification",
    "reply",
    "modern call",
    "modern ask",
    "route",
}
"""Recipes that a server answers 2xx in a short run, or its sessions were of no use."""


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_two_thousand_inputs_find_nothing() -> None:
    figures = await run(Order(SEED, inputs=INPUTS), print)
    print(figures.details(), figures.line(), sep="\n")
    assert LINE.fullmatch(figures.line())
    assert figures.is_sound, figures.details()
    assert figures.inputs == figures.statuses.total() == INPUTS
    assert {"200", "202", "400", "401", "404", "405"} <= figures.statuses.keys()
    assert figures.served.keys() >= ALWAYS_SERVED
    assert 0 < figures.memory_mb < 512


@pytest.mark.slow
@pytest.mark.timeout(100)
async def test_every_kind_of_fault_is_found() -> None:
    faults = "500 503 marker traceback token pause hang"
    order = Order(
        SEED, inputs=900, module="tests.fuzz.broken", hang_seconds=2.0, environment={"FUZZ_FAULTS": faults}
    )
    figures = await run(order, print)
    assert not figures.is_sound
    assert figures.counts["5xx"] == figures.statuses["500"] > 0
    assert figures.statuses["503"] > figures.statuses["500"]
    assert figures.counts["hangs"] == INSTANCES
    for kind in ("leaks", "secrets"):
        assert figures.counts[kind] > 0, kind
    assert figures.longest_pause_ms >= 50
    assert "no answer to" in figures.details()
    assert f"of seed {SEED}" in figures.details()


@pytest.mark.slow
@pytest.mark.timeout(100)
async def test_bytes_of_another_principal_and_an_instance_that_ends_are_found() -> None:
    environment = {"FUZZ_FAULTS": "marker end"}
    order = Order(SEED, inputs=600, module="tests.fuzz.broken", environment=environment)
    figures = await run(order, print)
    assert figures.counts["foreign"] > 0
    assert figures.counts["ended"] > 0
    assert figures.counts["unanswered"] > 0
    assert not figures.is_sound


@pytest.mark.parametrize("kind", ["5xx", "hangs", "leaks", "foreign", "secrets", "statements", "ended"])
def test_one_fault_fails_a_run(kind: str) -> None:
    figures = Figures(seed=1, wanted=1, inputs=1)
    assert figures.is_sound
    figures.add(kind, "it", "its example")
    assert not figures.is_sound
    assert f" {kind}=1" in figures.line()
    assert "its example" in figures.details()


def test_goals_are_those_of_the_whole_run_alone() -> None:
    short = Figures(seed=1, wanted=2_000, inputs=2_000, longest_pause_ms=51, memory_mb=10)
    assert short.is_sound
    for pause, memory, sound in ((50, 512, True), (51, 10, False), (1, 513, False)):
        whole = Figures(seed=1, wanted=100_000, inputs=100_000, longest_pause_ms=pause, memory_mb=memory)
        assert whole.is_sound is sound
    assert not Figures(seed=1, wanted=2, inputs=1).is_sound


def inputs_of(seed: int, corpus: Corpus, *, number: int = 400) -> list[Input]:
    recipes = Recipes(Random(seed), corpus, TOKENS)  # noqa: S311 - to be repeated
    return [recipes.next() for _ in range(number)]


def test_a_seed_makes_the_same_inputs() -> None:
    first, again, other = (inputs_of(seed, Corpus()) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len({each.name for each in first}) > 15


def test_live_material_changes_no_choice() -> None:
    corpus = Corpus()
    for who in TOKENS:
        for number in range(20):
            corpus.add(corpus.sessions, who, Session(f"{who}{number:039}", "2025-11-25"))
            corpus.learn_event(who, f"{who}{number:039}", f"{number}.7")
            corpus.learn_message(who, f"{who}{number:039}", {"method": "ping", "id": f"rMQ.{number:024}"})

    def choices(inputs: list[Input]) -> list[tuple[object, ...]]:
        return [(each.name, each.who, each.instance, each.is_owed, each.patience_seconds) for each in inputs]

    empty, full = inputs_of(3, Corpus()), inputs_of(3, corpus)
    assert choices(empty) == choices(full)
    assert [each.data for each in empty] != [each.data for each in full]


async def test_statements_of_others_are_told_from_the_packages_own() -> None:
    with EmbeddedPostgres(durable=False, settings=LOGGING) as postgres:
        connection = await asyncpg.connect(postgres.dsn, server_settings={"application_name": "fuzzed"})
        await connection.fetchval("SELECT 42\n  + $1::int", 1)
        await connection.execute("NOTIFY somebody")
        await connection.close()
        assert postgres.folder is not None
        log = postgres.folder / "log"

        async def is_written() -> bool:
            return "NOTIFY somebody" in log.read_text()

        await eventually(is_written)
        found = [sql for name, sql in logged(log) if name == "fuzzed"]
    assert found == ["SELECT 42\n\t  + $1::int", "NOTIFY somebody"]
    statements = Statements()
    assert not any(statements.is_known(sql) for sql in found)
    own = 'SELECT client_info FROM "public"."tmcp_session_context" WHERE id = $1'
    assert statements.is_known(own)
    for other in (f"{own} OR true", f"{own}; DROP TABLE x", own.replace("$1", "'a'"), "SELECT 1; SELECT 2"):
        assert not statements.is_known(other), other


async def test_the_watchdog_sees_a_pause_and_its_place(tmp_path: Path) -> None:
    log = tmp_path / "1.pauses"
    program = (
        "import asyncio, pathlib, sys, time\n"
        "from tests.fuzz.watchdog import Watchdog\n"
        "def pausing():\n"
        "    time.sleep(0.2)\n"
        "async def main():\n"
        "    Watchdog(pathlib.Path(sys.argv[1])).start()\n"
        "    await asyncio.sleep(0.1)\n"
        "    pausing()\n"
        "    await asyncio.sleep(0.1)\n"
        "asyncio.run(main())\n"
    )
    before = time.monotonic()
    command = [sys.executable, "-c", program, str(log)]
    root = Path(__file__).parents[2]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=60, cwd=root)
    longest = read_pauses([log], since=before)[0]
    assert longest.milliseconds >= 150
    assert any("pausing" in place for place in longest.stack)
    assert read_pauses([log], since=time.monotonic()) == []
