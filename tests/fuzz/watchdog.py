"""Watchdog of an event loop: its pauses, each with the stack that was seen in it."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

__all__ = ["Pause", "Watchdog", "read_pauses"]

_TICK_SECONDS = 0.01
_WORTH_NOTING_SECONDS = 0.02
_LATE_SECONDS = 0.03
_FRAMES = 8
_SIGNAL = signal.SIGUSR2


@dataclass(frozen=True)
class Pause:
    """A time in which the loop ran nothing else."""

    at: float
    """`time.monotonic` at its end: all processes of a machine share that clock."""

    milliseconds: float
    computing: float
    """Milliseconds of it in which the thread computed. The rest is waiting, or the machine's."""

    collecting: float
    """Milliseconds of it in which the garbage collector ran."""

    stack: list[str]
    """Places in the code, the innermost first."""


class Watchdog:
    """A pulse in the loop, and a thread that asks for the loop's stack when the pulse is late.

    The loop runs in the main thread: the question is a signal, SIGUSR2.

    The time in which the system did not run the thread, though it could have run, is not part of a pause.

    Args:
        path: The file that every pause of 20 ms or more is written to.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._beat = time.monotonic()
        self._waited = 0.0
        self._computed = 0.0
        self._asked = 0.0
        self._collecting = self._collection_began = 0.0
        self._seen: list[str] = []
        self._thread_id = 0
        self._schedule = Path()

    def start(self) -> None:
        """Watch the running loop, until the process ends."""
        self._file = self._path.open("a", encoding="utf-8")
        self._thread_id = threading.get_ident()
        self._schedule = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._waited, self._computed = self._waited_seconds(), time.thread_time()
        self._beat = time.monotonic()
        signal.signal(_SIGNAL, self._note_stack)
        gc.callbacks.append(self._collect)
        threading.Thread(target=self._look, name="watchdog", daemon=True).start()
        asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        now, waited, computed = time.monotonic(), self._waited_seconds(), time.thread_time()
        pause = now - self._beat - _TICK_SECONDS - (waited - self._waited)
        if pause >= _WORTH_NOTING_SECONDS and self._file is not None:
            line = {
                "at": now,
                "milliseconds": round(pause * 1000, 1),
                "computing": round((computed - self._computed) * 1000, 1),
                "collecting": round(self._collecting * 1000, 1),
                "stack": self._seen,
            }
            print(json.dumps(line), file=self._file, flush=True)
        self._seen, self._collecting = [], 0.0
        self._beat, self._waited, self._computed = now, waited, computed
        asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)

    def _collect(self, phase: str, _: object) -> None:
        if threading.get_ident() == self._thread_id:
            if phase == "start":
                self._collection_began = time.thread_time()
            else:
                self._collecting += time.thread_time() - self._collection_began

    def _waited_seconds(self) -> float:
        """Return the time that the thread has waited for a processor; 0 where the system does not tell."""
        try:
            return int(self._schedule.read_text(encoding="ascii").split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0

    def _look(self) -> None:
        """Ask the loop's thread for its stack when the pulse is late.

        Only a thread itself can read its frames: CPython 3.11 crashed here, in `PyFrame_GetBack`, when this
        thread read them while the loop went on.
        """
        while True:
            time.sleep(_TICK_SECONDS)
            beat = self._beat
            if beat != self._asked and self._is_late():
                self._asked = beat
                signal.pthread_kill(self._thread_id, _SIGNAL)

    def _is_late(self) -> bool:
        return time.monotonic() - self._beat > _TICK_SECONDS + _LATE_SECONDS

    def _note_stack(self, _: int, frame: FrameType | None) -> None:
        if self._is_late():
            seen: list[str] = []
            while frame is not None and len(seen) < _FRAMES:
                seen.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
                frame = frame.f_back
            self._seen = seen


def read_pauses(paths: Iterable[Path], *, since: float) -> list[Pause]:
    """Return the pauses that began and ended behind this moment, the longest first."""
    pauses = [
        Pause(**json.loads(line)) for path in paths for line in path.read_text(encoding="utf-8").splitlines()
    ]
    late = [each for each in pauses if each.at - each.milliseconds / 1000 > since]
    return sorted(late, key=lambda pause: -pause.milliseconds)
