"""Keeping the CPUs awake while something is measured.

A virtual CPU that has gone to sleep takes about 50 µs to wake, here as on most virtual machines, so that a
bare SELECT takes 26 µs or 71 µs, depending on where its backend runs. That is the hypervisor's time, and a
server under load does not see it; of the two sides of a row only the one with a database would pay for it. So
processes of the lowest class (SCHED_IDLE: they run when nothing else wants to) keep every CPU from going to
sleep. `--asleep` measures without them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["awake"]

_LONGEST_SECONDS = 1_800
_SPIN = f"""
import os, time
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
end, parent = time.monotonic() + {_LONGEST_SECONDS}, os.getppid()
while time.monotonic() < end and os.getppid() == parent:
    for _ in range(100_000): pass
"""


@contextlib.contextmanager
def awake(*, wanted: bool) -> Generator[None]:
    """Keep every CPU awake, where the system has SCHED_IDLE."""
    if not wanted or not hasattr(os, "SCHED_IDLE"):
        yield
        return
    cpus = os.sched_getaffinity(0)
    spinners = [subprocess.Popen([sys.executable, "-I", "-S", "-c", _SPIN]) for _ in cpus]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.terminate()
            spinner.wait()
