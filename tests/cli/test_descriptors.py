"""The local cluster and the Lambda emulator without descriptors: they wait, say little, and answer again."""

from __future__ import annotations

import resource
import signal
import socket
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.cli.support import until
from tests.cli.test_dev import HANDLER, NOWHERE, address, end, running

if TYPE_CHECKING:
    from collections.abc import Generator

LIMIT = 128
"""Descriptors of each process."""

LONG_SECONDS = 60.0
MODES = {"processes": ("--instances", "1"), "lambda": ("--lambda", "--sandboxes", "2")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(HANDLER)
    return tmp_path


@contextmanager
def limited() -> Generator[None]:
    """Have processes that are started meanwhile inherit a low soft limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=30).status_code == 404
    except httpx.TransportError:
        return False


def soft_limit(pid: int) -> int:
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in found for child in each.read_text().split()]


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.parametrize("mode", MODES)
def test_the_soft_limit_is_raised_and_at_the_limit_it_answers_again(mode: str, folder: Path) -> None:
    wanted = min(65_536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    arguments = ("mine:handler", *MODES[mode], "--database-url", NOWHERE)
    with ExitStack() as started, ExitStack() as stack:
        with limited():
            process, printed = started.enter_context(running(*arguments, folder=folder))
        url = f"{address(printed)}/nowhere"
        assert answers(url)
        for pid in (process.pid, *children(process.pid)):
            assert soft_limit(pid) == wanted
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
        host, port = address(printed).removeprefix("http://").split(":")
        for _ in range(LIMIT * 2):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=LONG_SECONDS))
        full = LIMIT - LIMIT // 8 - 8
        until(lambda: open_files(process.pid) >= full, limit_seconds=LONG_SECONDS)
        stack.close()
        until(lambda: answers(url), limit_seconds=LONG_SECONDS)
        assert process.poll() is None
        code, written = end(process, signal.SIGINT)
    assert code == 0
    assert "Traceback" not in written
    assert "keeps ending" not in written
