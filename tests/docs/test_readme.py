"""The README: its length, and its figures, which are those of the last whole runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from docs.generate.picture import PICTURE

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BENCHMARKS: list[dict[str, Any]] = json.loads((ROOT / "benchmarks" / "results.json").read_text())
CONFORMANCE: list[dict[str, Any]] = json.loads((ROOT / "tests" / "conformance" / "results.json").read_text())


def row(name: str) -> dict[str, Any]:
    return next(each for each in BENCHMARKS if each["name"] == name)


def test_the_readme_has_700_to_900_words_beside_its_code() -> None:
    prose = re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    assert 700 <= len(prose.split()) <= 900


def test_the_picture_is_in_the_readme() -> None:
    assert f"({PICTURE.relative_to(ROOT)})" in README


SSE, JSON = (row(f"warm tools/call, to the SDK's {kind} session") for kind in ("SSE", "JSON"))
COLD = row("cold start to first answer, to `import mcp.server`")
PASSED = sum(leg["passed"] for leg in CONFORMANCE)
STREAM = row("memory of an idle stream, of 500")
CONNECTIONS = row("Postgres connections that 200 more idle streams open")
HEARTBEATS = row("statements per 3 s with 300 idle streams")
BROADCAST = row("rows that a broadcast to 10,000 sessions writes")
ROUND_TRIPS = row("database round trips of that request")
WHOLE = [leg for leg in CONFORMANCE if not leg["failed"] and not leg["warned"] and not leg["excepted"]]


SENTENCES = [
    f"takes {SSE['ours']:.0f} µs",
    f"takes {JSON['reference']:.0f} µs with JSON answers and {SSE['reference']:.0f} µs with SSE",
    f"costs {ROUND_TRIPS['ours']:.0f} database round trip",
    f"A broadcast to 10,000 sessions writes {BROADCAST['ours']} row",
    f"takes {STREAM['ours']:.1f} KiB",
    f"200 more idle streams open {CONNECTIONS['ours']} further",
    f"300 of them cost {HEARTBEATS['ours']:.0f} statement in 3 seconds",
    f"The first answer comes {COLD['ours']:.0f} ms after the process began",
    f"`import mcp.server` takes {COLD['reference']:.0f} ms",
    f"{len(WHOLE)} of {len(CONFORMANCE)} runs: {PASSED:,} checks",
]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_figure_of_the_readme_is_that_of_the_last_whole_run(sentence: str) -> None:
    assert sentence in README
