"""The order of the tests, and how long they take: quick files first, by what each took in the last whole run.

`tests/durations.json` holds that. `pytest --record-durations` writes it anew after a run of every test.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

__all__ = ["Durations"]

_RECORD = Path(__file__).parents[1] / "durations.json"
_UNKNOWN_SECONDS = 1.0
"""What a file counts that was not there in the last whole run."""

_SHOWN = 10


class Durations:
    """A pytest plugin."""

    def __init__(self, config: pytest.Config) -> None:
        self._root = config.rootpath
        self._recorded: dict[str, float] = json.loads(_RECORD.read_text()) if _RECORD.exists() else {}
        self._seen: defaultdict[str, float] = defaultdict(float)
        self._slowest: defaultdict[str, float] = defaultdict(float)
        self._records = bool(config.getoption("--record-durations"))
        self._workers: int = config.getoption("numprocesses", None) or 1

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort files by what they took; within a file the order stays."""
        items.sort(
            key=lambda item: (self._recorded.get(_file(item.nodeid), _UNKNOWN_SECONDS), _file(item.nodeid))
        )

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> str:
        """Say about how long it takes."""
        files = {_file(item.nodeid) for item in items}
        seconds = sum(self._recorded.get(each, _UNKNOWN_SECONDS) for each in files)
        return self._sentence(len(items), seconds)

    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """Say the same where workers have collected, once."""
        if node.gateway.id == "gw0":
            seconds = sum(self._recorded.get(each, _UNKNOWN_SECONDS) for each in {_file(id) for id in ids})
            node.config.get_terminal_writer().line(self._sentence(len(ids), seconds))

    def _sentence(self, count: int, seconds: float) -> str:
        about = max(1, round(seconds / self._workers / 60 * 10) / 10)
        each = "one process" if self._workers == 1 else f"{self._workers} processes"
        return f"{count} tests in {each}: about {about:g} minutes on two quiet cores"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a phase of a test to its file's time and to its own."""
        self._seen[_file(report.nodeid)] += report.duration
        self._slowest[report.nodeid] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the slowest tests, with what they need around them."""
        slowest = sorted(self._slowest.items(), key=lambda each: -each[1])[:_SHOWN]
        if len(self._slowest) > _SHOWN:
            terminalreporter.write_line(f"The slowest {len(slowest)} tests:")
            for nodeid, seconds in slowest:
                terminalreporter.write_line(f"{seconds:7.1f} s  {nodeid}")

    def pytest_sessionfinish(self) -> None:
        """Write down what each file took, where that was asked for."""
        if self._records and self._seen:
            taken = {file: round(seconds, 1) for file, seconds in sorted(self._seen.items())}
            _RECORD.write_text(json.dumps(taken, indent=1) + "\n")


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
