"""A process that owns one other process, and ends it when the process that started both is gone.

Run as a script, isolated and without this package. `PR_SET_PDEATHSIG` would not do: it fires when the
*thread* that started the child ends, and exists on Linux alone. Here the end of a pipe is the signal, so it
also comes when that process was killed with SIGKILL, and the folder is removed even then.

The argument is one JSON object: `command` (list), `uid` and `gid` (or null), `folder`. Standard output gets
the process id. Standard input is read: a byte `i` or `q` sends SIGINT or SIGQUIT; its end, like SIGTERM,
ends the process and removes the folder.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from typing import Any

_SIGNALS = {b"i": signal.SIGINT, b"q": signal.SIGQUIT}
_LAST_SECONDS = 5.0


def _start(order: dict[str, Any]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603  # the command is our parent's
        order["command"],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        cwd="/",
        user=order["uid"],
        group=order["gid"],
        extra_groups=None if order["uid"] is None else (),
    )


def _watch(child: "subprocess.Popen[bytes]", wakeup: int) -> bool:
    """Pass orders on until the child has ended; return false when the sender of orders is gone."""
    orders = sys.stdin.fileno()
    while child.poll() is None:
        ready, _, _ = select.select([orders, wakeup], [], [])
        if wakeup in ready:
            os.read(wakeup, 64)
        if orders in ready:
            order = os.read(orders, 1)
            if order not in _SIGNALS:
                return False
            child.send_signal(_SIGNALS[order])
    return True


def _end(child: "subprocess.Popen[bytes]", folder: str) -> None:
    child.send_signal(signal.SIGQUIT)
    try:
        child.wait(_LAST_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _wake(_signal: int, _frame: object) -> None:
    """Do nothing: a signal that is handled writes to the wakeup pipe."""


def _main() -> int:
    order = json.loads(sys.argv[1])
    wakeup, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, _wake)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    child = _start(order)
    try:
        os.write(sys.stdout.fileno(), b"%d\n" % child.pid)
        wanted = _watch(child, wakeup)
    except (KeyboardInterrupt, BrokenPipeError):
        wanted = False
    if not wanted:
        _end(child, order["folder"])
    return child.returncode


if __name__ == "__main__":
    sys.exit(_main())
