"""The table on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.row import Row

__all__ = ["print_heading", "print_row"]

_FORM = "{:54} {:>9} {:>9}  {:10} {:>6} {:>13} {:>7}  {}"


def print_heading() -> None:
    """Name the columns."""
    print(_FORM.format("what", "ours", "reference", "unit", "ratio", "p25-p75", "goal", "met"))


def print_row(row: Row) -> None:
    """Print one line, at once: the next may take a while."""
    line = _FORM.format(
        row.name,
        _number(row.ours),
        _number(row.reference),
        row.unit,
        "" if row.ratio is None else f"{row.ratio:.2f}",
        "" if row.spread is None else f"{row.spread[0]:.2f}-{row.spread[1]:.2f}",
        "" if row.goal is None else f"≤ {row.goal:g}",
        {True: "yes", False: "NO", None: ""}[row.met],
    )
    print(f"{line}  ({row.note})" if row.note else line, flush=True)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
