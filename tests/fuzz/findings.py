"""Findings: what is wrong with an answer, with a log or with the statements, and the figures of a run."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.fuzz.corpus import Corpus
    from tests.fuzz.inputs import Input
    from tests.fuzz.wire import Response

__all__ = [
    "MOST_MEGABYTES",
    "MOST_PAUSE_MILLISECONDS",
    "Figures",
    "Judge",
    "Principal",
    "exceptions_in",
    "secrets_in",
]

MOST_PAUSE_MILLISECONDS = 50.0
MOST_MEGABYTES = 512.0
WHOLE_INPUTS = 100_000
"""Inputs from which on a run has to meet the goals for pauses and memory too."""

_KEPT_OF_A_KIND = 5
_SHOWN_BYTES = 1_500
_CHUNK_BYTES = 1 << 20

_LEAKS = re.compile(
    rb"""Traceback \(most recent call last\)
    | File\ "/[^"]+",\ line\ \d+
    | /(?:site-packages|tmcp_serverless|lib/python3)/[\w./-]*
    | \b(?:SELECT|DELETE)\b[^;]{0,300}\bFROM\b | \bINSERT\ INTO\b | \bUPDATE\b[^;]{0,100}\bSET\b
    | tmcp_(?:session|mailboxes|messages|secrets|spent|schema)\w*
    | asyncpg | postgres(?:ql)?:// | root:x:0 | -----BEGIN """,
    re.VERBOSE,
)
"""Tracebacks, paths, SQL, the database's address and key material."""

_NEXT_ENTRY = re.compile(r"^(?:DEBUG|INFO|WARNING|ERROR|CRITICAL):", re.MULTILINE)

_NOT_READY = b'{"status":"not ready"'
"""The answer of the readiness check: a platform asks again by its own clock."""

_SIGNS = (
    b"Traceback",
    b'File "',
    b"site-packages",
    b"python3",
    b"postgres",
    b"FROM",
    b"INTO",
    b"UPDATE",
    b"tmcp_",
    b"asyncpg",
    b"root:x",
    b"-----BEGIN",
)
"""No leak is without one of these. They are found faster."""


@dataclass(frozen=True)
class Principal:
    """One who uses the server: a name, a bearer token, and the marker in everything of his."""

    name: str
    token: str
    marker: str


@dataclass
class Figures:
    """The outcome of a run."""

    seed: int
    wanted: int
    inputs: int = 0
    statuses: Counter[str] = field(default_factory=Counter[str])
    counts: Counter[str] = field(default_factory=Counter[str])
    """Faults by kind: `5xx`, `hangs`, `leaks`, `foreign`, `secrets`, `statements`, `unanswered`, `ended`.

    `exceptions`, which the ASGI server has logged, are among them.
    """

    examples: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    """Texts of faults, by kind and by a line that tells one fault from another."""

    served: Counter[str] = field(default_factory=Counter[str])
    """Inputs that were answered 2xx, by recipe."""

    longest_pause_ms: float = 0.0
    memory_mb: float = 0.0
    seconds: float = 0.0

    def add(self, kind: str, what: str, example: str) -> None:
        """Count a fault, and keep it as an example if its like has not been seen."""
        self.counts[kind] += 1
        kept = self.examples.setdefault(kind, {})
        if len(kept) < _KEPT_OF_A_KIND:
            kept.setdefault(what, example)

    @property
    def is_sound(self) -> bool:
        """`True` if there is no fault, and the run was whole; a long run meets the goals as well."""
        meets_goals = self.longest_pause_ms <= MOST_PAUSE_MILLISECONDS and self.memory_mb <= MOST_MEGABYTES
        return (
            self.inputs == self.wanted
            and not self.counts.total()
            and (meets_goals or self.inputs < WHOLE_INPUTS)
        )

    def line(self) -> str:
        """Return the figures in one line."""
        statuses = json.dumps(dict(sorted(self.statuses.items())), separators=(",", ":"))
        faults = ("5xx", "hangs", "leaks", "foreign", "secrets")
        return (
            f"inputs={self.inputs} seed={self.seed} statuses={statuses} "
            + " ".join(f"{kind}={self.counts[kind]}" for kind in faults)
            + f" longest_pause_ms={self.longest_pause_ms:.0f} memory_mb={self.memory_mb:.0f}"
            + "".join(
                f" {kind}={self.counts[kind]}" for kind in ("statements", "unanswered", "ended", "exceptions")
            )
            + f" seconds={self.seconds:.0f}"
        )

    def details(self) -> str:
        """Return the examples of the faults, with their inputs."""
        lines: list[str] = []
        for kind, kept in sorted(self.examples.items()):
            lines.append(f"{kind}: {self.counts[kind]}")
            lines += [f"  {what}\n{_indented(example)}" for what, example in kept.items()]
        return "\n".join(lines)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


class Judge:
    """Looks at each answer for what must not be in it.

    Args:
        figures: The figures to count in.
        principals: The principals by name.
        corpus: The sessions of each.
        secrets: What must be in no answer at all, by name.

    """

    def __init__(
        self,
        figures: Figures,
        principals: Mapping[str, Principal],
        corpus: Corpus,
        secrets: Mapping[str, str],
    ) -> None:
        self._figures = figures
        self._principals = principals
        self._corpus = corpus
        self._secrets = secrets

    def judge(self, number: str, sent: Input, response: Response) -> None:
        """Count the answer, and its faults."""
        figures = self._figures
        figures.inputs += 1
        if response.has_hung and sent.is_owed:
            figures.statuses["hung"] += 1
            self._add("hangs", f"no answer to {sent.name}", number, sent, response)
            return
        figures.statuses[str(response.status or "none")] += 1
        if 200 <= response.status < 300:
            figures.served[sent.name] += 1
        if sent.is_owed and not response.status:
            self._add("unanswered", f"the connection ended: {sent.name}", number, sent, response)
        documented = response.status == 503 and (
            "retry-after" in response.headers or response.body.startswith(_NOT_READY)
        )
        if response.status >= 500 and not documented:
            what = f"{response.status} to {sent.name}: {response.body[:80]!r}"
            self._add("5xx", what, number, sent, response)
        for kind, what in self._contents(sent, response):
            self._add(kind, what, number, sent, response)

    def _contents(self, sent: Input, response: Response) -> Iterator[tuple[str, str]]:
        came, went = response.head + response.body, sent.data
        for name, principal in self._principals.items():
            if name != sent.who and principal.marker.encode() in came:
                yield "foreign", f"the marker of {name} in an answer to {sent.who}: {sent.name}"
        session_id = response.headers.get("mcp-session-id", "")
        if self._corpus.is_of_another(session_id, sent.who):
            yield "foreign", f"a session of another in an answer to {sent.who}: {sent.name}"
        for name, secret in self._secrets.items():
            if secret.encode() in came:
                yield "leaks", f"{name} in an answer: {sent.name}"
        if any(sign in came for sign in _SIGNS):
            for found in _LEAKS.finditer(came):
                if found[0] not in went:
                    yield "leaks", f"{found[0][:60]!r} in an answer: {sent.name}"
                    return

    def _add(self, kind: str, what: str, number: str, sent: Input, response: Response) -> None:
        pieces = [piece[:_SHOWN_BYTES] if isinstance(piece, bytes) else piece for piece in sent.pieces[-3:]]
        example = (
            f"input {number} of seed {self._figures.seed}, {sent.who}, instance {sent.instance + 1}:\n"
            f"{pieces!r}\n"
            f"answer after {response.seconds:.2f} s: {(response.head + response.body)[:_SHOWN_BYTES]!r}"
        )
        self._figures.add(kind, what, example)


def exceptions_in(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the last line and the traceback of each exception that has reached the ASGI server."""
    text = path.read_text(encoding="utf-8", errors="replace")
    for entry in text.split("ERROR:uvicorn.error:Exception in ASGI application\n")[1:]:
        trace = entry[: found.start()] if (found := _NEXT_ENTRY.search(entry)) else entry
        yield trace.rstrip().rpartition("\n")[2][:200], trace[-_SHOWN_BYTES:]


def secrets_in(path: Path, secrets: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the name of each secret in a log, with the line that it is in, for each time that it is there."""
    wanted = {name: secret.encode() for name, secret in secrets.items()}
    any_of_them = re.compile(b"|".join(re.escape(each) for each in wanted.values()))
    with path.open("rb") as log:
        for line in log:
            if any_of_them.search(line):
                for name, secret in wanted.items():
                    if secret in line:
                        yield name, line.decode("utf-8", "replace").strip()[:_SHOWN_BYTES]
