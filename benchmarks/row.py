"""One line of the result: a number of ours, what it is compared to, and the goal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from benchmarks.samples import Samples

__all__ = ["NotMeasuredError", "Row"]


class NotMeasuredError(Exception):
    """A row cannot be measured here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured number. It meets its goal when it is not above it."""

    name: str
    ours: float
    unit: str
    goal: float | None = None
    """What it may be at the most; `None` where the row is there to compare others with."""

    reference: float | None = None
    """What ours is divided by; `None` where the number itself is compared to the goal."""

    spread: tuple[float, float] | None = None
    """The quartiles of the ratio over the rounds."""

    note: str = ""

    @classmethod
    def of_medians(
        cls,
        name: str,
        samples: Samples,
        *,
        reference: str,
        ours: str = "ours",
        goal: float | None = None,
        unit: Literal["µs", "ms"] = "µs",
    ) -> Row:
        """Return the row that compares the median of one operation with the median of the reference."""
        scale = {"µs": 1e6, "ms": 1e3}[unit]
        return cls(
            name=name,
            ours=samples.median(ours) * scale,
            reference=samples.median(reference) * scale,
            unit=f"{unit} p50",
            goal=goal,
            spread=samples.ratio_quartiles(ours, reference),
        )

    def noting(self, note: str) -> Row:
        """Return the row with something to say about it."""
        return replace(self, note=note)

    @property
    def ratio(self) -> float | None:
        """Ours divided by the reference."""
        return None if self.reference is None else self.ours / self.reference

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached, where there is one."""
        if self.goal is None:
            return None
        return (self.ours if self.ratio is None else self.ratio) <= self.goal

    def as_json(self) -> dict[str, object]:
        """Return the row as `results.json` has it."""
        return {
            "name": self.name,
            "ours": round(self.ours, 3),
            "reference": None if self.reference is None else round(self.reference, 3),
            "unit": self.unit,
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "goal": self.goal,
            "met": self.met,
        }
