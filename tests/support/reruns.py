"""Tests that run again after a failure, as CI lets them do with `--reruns`.

The summary lists each of them with its first error: it is a bug to be mended, though the run passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Reruns"]

_CHARACTERS = 300


class Reruns:
    """A pytest plugin beside pytest-rerunfailures."""

    def __init__(self) -> None:
        self._errors: dict[str, str] = {}
        self._timers: dict[str, Any] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the first error of a test that runs again."""
        if str(report.outcome) == "rerun":
            self._errors.setdefault(report.nodeid, _error(report))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """List them."""
        if self._errors:
            terminalreporter.section(f"tests that ran again: {len(self._errors)}, each a bug to be mended")
            for nodeid, error in sorted(self._errors.items()):
                terminalreporter.write_line(f"RAN AGAIN {nodeid} - {error}")

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> None:
        """Remember the limit, and leave its timer to pytest-timeout."""
        self._timers[item.nodeid] = settings

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Set the timer again for a further attempt: pytest-timeout stops it at the first failure."""
        settings = self._timers.get(item.nodeid)
        if settings is not None and getattr(item, "execution_count", 1) > 1:
            item.config.hook.pytest_timeout_set_timer(item=item, settings=settings)


def _error(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = report.longreprtext if crash is None else str(crash.message)
    return next(_lines(text), "no error")[:_CHARACTERS]


def _lines(text: str) -> Iterator[str]:
    return (line for line in text.splitlines() if line.strip())
