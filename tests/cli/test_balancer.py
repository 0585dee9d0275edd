from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.cli.support import LIMIT_SECONDS
from tmcp_serverless.cli.balancer import Balancer, PortInUseError, listen

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve) -> AsyncGenerator[int]:
    """A TCP server on a port of its own."""

    async def close_after(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    async with await asyncio.start_server(close_after, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


@asynccontextmanager
async def balanced(*ports: int, wait_seconds: float = LIMIT_SECONDS) -> AsyncGenerator[int]:
    """A balancer over these ports, on a port of its own."""
    with listen("127.0.0.1", 0) as listener:
        running = asyncio.create_task(Balancer(listener, lambda: ports, wait_seconds=wait_seconds).run())
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                yield listener.getsockname()[1]
        finally:
            running.cancel()
            await asyncio.wait({running})


@asynccontextmanager
async def connected(port: int) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


def saying(answer: bytes) -> Serve:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return serve


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
    writer.write(b"that was all")


async def answers(port: int, count: int) -> list[bytes]:
    found: list[bytes] = []
    for _ in range(count):
        async with connected(port) as (reader, _):
            found.append(await reader.read())
    return found


async def dead_port() -> int:
    async with server(echo) as port:
        return port


async def test_connections_take_turns() -> None:
    async with server(saying(b"a")) as a, server(saying(b"b")) as b, balanced(a, b) as port:
        assert await answers(port, 4) == [b"a", b"b", b"a", b"b"]


async def test_one_that_does_not_accept_is_passed_over() -> None:
    async with server(saying(b"a")) as a, balanced(await dead_port(), a) as port:
        assert await answers(port, 3) == [b"a", b"a", b"a"]


async def test_with_none_the_answer_is_503() -> None:
    async with balanced(await dead_port(), wait_seconds=0.1) as port:
        [answer] = await answers(port, 1)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert f"content-length: {len(body)}".encode() in head


async def test_bytes_pass_both_ways_as_they_come() -> None:
    async with server(echo) as a, balanced(a) as port, connected(port) as (reader, writer):
        for word in (b"one", b"two"):
            writer.write(word)
            assert await reader.readexactly(3) == word


async def test_a_half_close_is_passed_on_and_the_rest_of_the_answer_still_arrives() -> None:
    async with server(echo) as a, balanced(a) as port, connected(port) as (reader, writer):
        writer.write(b"one")
        writer.write_eof()
        assert await reader.read() == b"onethat was all"


async def test_a_client_that_closes_is_seen_by_the_server() -> None:
    seen = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"here")
        assert await reader.read() == b""
        seen.set()

    async with server(serve) as a, balanced(a) as port:
        async with connected(port) as (reader, _):
            await reader.readexactly(4)
        await seen.wait()


async def test_a_client_that_resets_is_seen_by_the_server() -> None:
    seen = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"here")
        assert await reader.read() == b""
        seen.set()

    async with server(serve) as a, balanced(a) as port:
        async with connected(port) as (reader, writer):
            await reader.readexactly(4)
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        await seen.wait()


async def test_a_server_that_goes_is_seen_by_the_client() -> None:
    async with server(saying(b"half an ans")) as a, balanced(a) as port, connected(port) as (reader, _):
        assert await reader.read() == b"half an ans"


async def test_an_answer_to_a_body_that_nobody_reads_arrives_whole() -> None:
    answer = b"HTTP/1.1 413 Content Too Large\r\n\r\n" + b"too long" * 10_000

    async with server(saying(answer)) as a, balanced(a) as port, connected(port) as (reader, writer):
        writer.write(b"x" * 10_000_000)
        assert await reader.readexactly(len(answer)) == answer


async def test_when_the_balancer_ends_connections_end() -> None:
    async with server(echo) as a:
        async with balanced(a) as port, connected(port) as (reader, writer):
            writer.write(b"one")
            assert await reader.readexactly(3) == b"one"
        assert await reader.read() in (b"", b"that was all")


def test_a_port_in_use_is_an_error_that_names_it() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"Port {port} on 127.0.0.1 is in use"):
            listen("127.0.0.1", port)
