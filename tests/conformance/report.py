"""The table on the terminal, and the same as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from tests.conformance.expected import EXCEPTIONS, PASSED, complaints, exceptions

if TYPE_CHECKING:
    from tests.conformance.suite import Run

__all__ = ["Row", "print_heading", "print_row"]

_FORM = "  {:24} {:>7} {:>7} {:>7} {:>7} {:>10} {:>8}  {}"


@dataclass(frozen=True, slots=True)
class Row:
    """What a leg came to in a setting."""

    setting: str
    leg: str
    passed: int
    failed: int
    warned: int
    extensions: int
    """Checks of extensions, which a requirement set runs along and does not score."""

    excepted: dict[str, str]
    """What did not pass and need not, with the reason."""

    complaints: list[str]

    @classmethod
    def of(cls, run: Run, setting: str) -> Self:
        """Return the row of a run."""
        counted = Counter(check.status for check in run.checks)
        bad = {check.name for check in run.checks if check.status in ("FAILURE", "WARNING")}
        return cls(
            setting,
            run.leg.name,
            passed=counted["SUCCESS"],
            failed=counted["FAILURE"],
            warned=counted["WARNING"],
            extensions=len(run.extensions),
            excepted={name: why for name, why in exceptions(setting).items() if name in bad},
            complaints=complaints(run, setting),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the row for the file of results."""
        return asdict(self)


def print_heading(setting: str, title: str) -> None:
    """Name the setting, what is excepted in it, and the columns."""
    print(f"\n{title}")
    if setting in EXCEPTIONS and not exceptions(setting):
        print("  excepted: nothing")
    for name, why in exceptions(setting).items():
        print(f"  excepted: {name}: {why}")
    columns = ("leg", "passed", "failed", "warned", "wanted", "extensions", "seconds", "complete")
    print(_FORM.format(*columns))


def print_row(row: Row, seconds: float) -> None:
    """Print one line, and what is wrong below it, at once: the next may take a while."""
    counts = (row.passed, row.failed, row.warned, PASSED[row.leg], row.extensions)
    complete = "NO" if row.complaints else "yes"
    print(_FORM.format(row.leg, *counts, f"{seconds:.1f}", complete), flush=True)
    for complaint in row.complaints:
        print(f"    {complaint}", flush=True)
