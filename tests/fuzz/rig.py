"""The run: Postgres, three instances with their logs, workers that send inputs, and the figures."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import asyncpg

from tests.fuzz.corpus import PRINCIPALS, Corpus, EventStream, Session
from tests.fuzz.findings import Figures, Judge, Principal, exceptions_in, secrets_in
from tests.fuzz.recipes import INSTANCES, Recipes
from tests.fuzz.statements import LOGGING, Statements, logged
from tests.fuzz.watchdog import read_pauses
from tests.fuzz.wire import Link, Response
from tmcp_serverless.testing.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.fuzz.inputs import Input

__all__ = ["Order", "run"]

_ROOT = Path(__file__).parents[2]
_PROGRESS_SECONDS = 1.0
_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_BACKGROUND = 40
_SHORT_PATIENCE_SECONDS = 0.05
_APPLICATION = "fuzzed"
_SHOWN_PAUSES = 3
_SHOWN_FRAMES = 5
_NOT_FOUND = b"Session not found"
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


@dataclass(frozen=True)
class Order:
    """What is to be run."""

    seed: int
    inputs: int = 100_000
    workers: int = 32
    module: str = "tests.fuzz.server"
    hang_seconds: float = 30.0
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


class _Instance:
    """One process, its port and its log."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.port = 0
        self.log = log

    def peak_megabytes(self) -> float:
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        except OSError:
            return 0.0
        found = _PEAK.search(status)
        return int(found[1]) / 1024 if found else 0.0

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.terminate()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
        await self.process.wait()


async def run(order: Order, say: Callable[[str], None]) -> Figures:
    """Run it, and return its figures."""
    random = Random(f"{order.seed} principals")  # noqa: S311 - to be repeated, not to be unguessable
    principals = {
        name: Principal(name, f"token-{random.randbytes(16).hex()}", f"marker-{random.randbytes(16).hex()}")
        for name in PRINCIPALS
    }
    hidden = {"the database's password": secrets.token_hex(16)}
    hidden |= {f"the token of {each.name}": each.token for each in principals.values()}
    async with AsyncExitStack() as outer:
        folder = Path(outer.enter_context(tempfile.TemporaryDirectory(prefix="fuzz-")))
        postgres = outer.enter_context(EmbeddedPostgres(durable=False, settings=LOGGING))
        environment = _environment(order, principals, postgres.port, hidden["the database's password"])
        async with AsyncExitStack() as stack:
            instances: list[_Instance] = []
            async with asyncio.TaskGroup() as group:
                for number in range(INSTANCES):
                    name = f"{number + 1}"
                    starting = _start(order.module, folder, name, environment, into=instances)
                    group.create_task(starting)
                    stack.push_async_callback(_stop, name, instances)
            instances.sort(key=lambda each: each.name)
            fuzzing = _Run(order, say, instances, principals, hidden)
            await fuzzing.run()
            figures = fuzzing.figures
            hidden |= await _keys(postgres.dsn)
            _look_at_processes(instances, figures)
        _look_at_logs(instances, hidden, figures)
        _look_at_pauses(folder, figures, since=fuzzing.warm_at, say=say)
        _look_at_statements(postgres, figures)
    return figures


def _look_at_processes(instances: list[_Instance], figures: Figures) -> None:
    figures.memory_mb = max(instance.peak_megabytes() for instance in instances)
    for instance in instances:
        if instance.process.returncode is not None:
            ended = f"an instance ended with {instance.process.returncode}"
            figures.add("ended", ended, _tail(instance.log))


def _look_at_logs(instances: list[_Instance], hidden: Mapping[str, str], figures: Figures) -> None:
    for instance in instances:
        for name, line in secrets_in(instance.log, hidden):
            figures.add("secrets", f"{name} in the log", line)
        for what, trace in exceptions_in(instance.log):
            figures.add("exceptions", what, trace)


def _look_at_pauses(folder: Path, figures: Figures, *, since: float, say: Callable[[str], None]) -> None:
    pauses = read_pauses(folder.glob("*.pauses"), since=since)
    figures.longest_pause_ms = pauses[0].milliseconds if pauses else 0.0
    for pause in pauses[:_SHOWN_PAUSES]:
        stack = " < ".join(pause.stack[:_SHOWN_FRAMES])
        of_it = f"{pause.computing:.0f} ms computing, {pause.collecting:.0f} ms collecting garbage"
        say(f"A pause of {pause.milliseconds:.0f} ms ({of_it}) in: {stack}")


def _look_at_statements(postgres: EmbeddedPostgres, figures: Figures) -> None:
    assert postgres.folder is not None
    statements, known = Statements(), dict[str, bool]()
    for application, sql in logged(postgres.folder / "log"):
        if application.startswith(_APPLICATION):
            if sql not in known:
                known[sql] = statements.is_known(sql)
            if not known[sql]:
                figures.add("statements", sql[:80], sql)


def _environment(
    order: Order, principals: Mapping[str, Principal], port: int, password: str
) -> dict[str, str]:
    tokens = {each.token: {"name": each.name, "marker": each.marker} for each in principals.values()}
    address = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres?application_name={_APPLICATION}"
    return {
        **os.environ,
        "FUZZ_PRINCIPALS": json.dumps(tokens),
        "TMCP_DATABASE_URL": address,
        "TMCP_STREAM_MAX_SECONDS": "3",
        "TMCP_DEFER_SECONDS": "0.2",
        **order.environment,
    }


async def _start(
    module: str, folder: Path, name: str, environment: dict[str, str], *, into: list[_Instance]
) -> None:
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.fuzz.instance", module, str(folder), name),
            cwd=_ROOT,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
        )
    instance = _Instance(name, process, log)
    into.append(instance)
    assert process.stdout is not None
    async with asyncio.timeout(_START_SECONDS):
        line = await process.stdout.readline()
        if not line.strip().isdigit():
            raise RuntimeError(f"an instance did not start:\n{_tail(log)}")
        instance.port = int(line)


async def _stop(name: str, instances: list[_Instance]) -> None:
    for instance in instances:
        if instance.name == name:
            await instance.stop()


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-3_000:]


async def _keys(dsn: str) -> dict[str, str]:
    """Return the keys of request states that the instances share."""
    connection = await asyncpg.connect(dsn, server_settings={"application_name": "rig"})
    try:
        rows = await connection.fetch("SELECT * FROM tmcp_secrets")
    except asyncpg.UndefinedTableError:
        return {}
    finally:
        await connection.close()
    texts = [value for row in rows for value in row.values() if isinstance(value, str)]
    return {f"key {number}": text for number, text in enumerate(texts) if re.fullmatch("[0-9a-f]{64}", text)}


class _Run:
    """The workers, and everything that they share."""

    def __init__(
        self,
        order: Order,
        say: Callable[[str], None],
        instances: list[_Instance],
        principals: Mapping[str, Principal],
        hidden: Mapping[str, str],
    ) -> None:
        self.figures = Figures(order.seed, order.inputs)
        self.warm_at = 0.0
        """`time.monotonic` when the instances had done everything once."""

        self._order = order
        self._say = say
        self._instances = instances
        self._corpus = Corpus()
        self._tokens = {each.name: each.token for each in principals.values()}
        self._judge = Judge(self.figures, principals, self._corpus, hidden)
        self._background = set[asyncio.Task[None]]()

    async def run(self) -> None:
        """Send all inputs, and wait for their answers."""
        await self._warm_up()
        self.warm_at = began = time.monotonic()
        telling = asyncio.create_task(self._tell(began))
        order = self._order
        shares = [len(range(worker, order.inputs, order.workers)) for worker in range(order.workers)]
        try:
            async with asyncio.TaskGroup() as group:
                for worker, share in enumerate(shares):
                    group.create_task(self._work(worker, share))
            await asyncio.gather(*self._background)
        finally:
            telling.cancel()
            self.figures.seconds = time.monotonic() - began

    async def _warm_up(self) -> None:
        """Send a few plain inputs to each instance, and count them nowhere: they bring the first material."""
        random = Random(f"{self._order.seed} warm")  # noqa: S311 - to be repeated
        recipes = Recipes(random, self._corpus, self._tokens)
        for rounds in recipes.first():
            await asyncio.gather(*(self._exchange(self._link(each.instance), each) for each in rounds))

    def _link(self, instance: int) -> Link:
        return Link(self._instances[instance].port, hang_seconds=self._order.hang_seconds)

    async def _work(self, worker: int, share: int) -> None:
        random = Random(f"{self._order.seed} {worker}")  # noqa: S311 - to be repeated
        recipes = Recipes(random, self._corpus, self._tokens)
        links = [self._link(instance) for instance in range(INSTANCES)]
        for index in range(share):
            sent = recipes.next()
            number, link = f"{index} of worker {worker}", links[sent.instance]
            if len(self._background) >= _BACKGROUND:
                sent = replace(sent, patience_seconds=_SHORT_PATIENCE_SECONDS)
            if sent.patience_seconds <= _SHORT_PATIENCE_SECONDS:
                await self._try(number, link, sent)
                continue
            task = asyncio.create_task(self._try(number, link, sent))
            await asyncio.wait({task}, timeout=_SHORT_PATIENCE_SECONDS)
            if not task.done():
                # It may be a stream that stays open for a while: the worker goes on without it.
                links[sent.instance] = self._link(sent.instance)
                self._background.add(task)
                task.add_done_callback(partial(self._end, link))
        for link in links:
            link.close()

    def _end(self, link: Link, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        link.close()

    async def _try(self, number: str, link: Link, sent: Input) -> None:
        self._judge.judge(number, sent, await self._exchange(link, sent))

    async def _exchange(self, link: Link, sent: Input) -> Response:
        def on_stream(response: Response) -> Callable[[bytes], None]:
            session_id = response.headers.get("mcp-session-id", sent.session_id)
            return EventStream(self._corpus, sent.who, session_id, sent.tool).feed

        response = await link.exchange(sent, on_stream=on_stream)
        self._learn(sent, response)
        return response

    def _learn(self, sent: Input, response: Response) -> None:
        has_ended = response.status == 404 and _NOT_FOUND in response.body
        if has_ended or (response.status == 200 and sent.data.startswith(b"DELETE")):
            self._corpus.forget(sent.who, sent.session_id)
        if response.status != 200 or response.is_stream or not response.body.startswith(b"{"):
            return
        try:
            message: Any = json.loads(response.body)
        except ValueError:
            return
        self._corpus.learn_message(sent.who, sent.session_id, message, tool=sent.tool)
        id = response.headers.get("mcp-session-id")
        version = (message.get("result") or {}).get("protocolVersion")
        if id is not None and isinstance(version, str):
            self._corpus.add(self._corpus.sessions, sent.who, Session(id, version))

    async def _tell(self, began: float) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_SECONDS)
            figures, seconds = self.figures, time.monotonic() - began
            faults = " ".join(f"{kind}={count}" for kind, count in sorted(figures.counts.items()))
            self._say(
                f"{figures.inputs}/{figures.wanted} inputs, {figures.inputs / seconds:.0f}/s, "
                f"{self._corpus.added} ids learnt {faults}"
            )
