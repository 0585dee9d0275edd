"""The report of a tour: its steps, the requests that were made, and the instances that served them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Request", "Step", "TourError", "TourReport", "UnexpectedError", "expect", "instances_of"]

_FEW = 3


class TourError(Exception):
    """A step failed. The message names the step, the expected outcome and the actual one."""


class UnexpectedError(Exception):
    """A step had an unexpected outcome. The message is that outcome."""


def expect(condition: object, got: object) -> None:
    """Fail the running step unless the condition holds, and report the actual value."""
    if not condition:
        raise UnexpectedError(f"{got!r}")


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request that a client made, and the instance that answered it."""

    by: str
    what: str
    """The HTTP method, or for a POST the JSON-RPC method, or `answer` for an answer to the server."""
    status: int
    instance: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the transcript."""

    number: int
    title: str
    outcome: str
    requests: tuple[Request, ...]

    def __str__(self) -> str:
        return f"{self.number:2}. {self.title:<22} {_named(instances_of(self.requests)):<18} {self.outcome}"


@dataclass(slots=True)
class TourReport:
    """The record of a tour, step by step."""

    steps: list[Step] = field(default_factory=list[Step])
    delivered: int = 0
    """The number of notifications that the clients waited for, and got."""

    @property
    def requests(self) -> list[Request]:
        """Every HTTP request, in the order of the beginnings of their responses."""
        return [request for step in self.steps for request in step.requests]

    @property
    def instances(self) -> list[str]:
        """The instances that served the tour, sorted."""
        return sorted(instances_of(self.requests))

    def __str__(self) -> str:
        return (
            f"{len(self.steps)} steps, {len(self.requests)} requests, served by {_named(self.instances)}; "
            f"{self.delivered} notifications awaited, nothing lost."
        )


def _named(instances: Sequence[str]) -> str:
    """Name the instances if they are few, as in a cluster; count them if each request has its own."""
    match len(instances):
        case 0:
            return "instances without names"
        case 1:
            return f"instance {instances[0]}"
        case number if number <= _FEW:
            return f"instances {', '.join(instances)}"
        case number:
            return f"{number} instances"


def instances_of(requests: Sequence[Request]) -> list[str]:
    """Return the instances' names, each once, in the order of their first response."""
    return list(dict.fromkeys(request.instance for request in requests if request.instance is not None))
