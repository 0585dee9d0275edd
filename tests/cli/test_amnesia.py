from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.cli.support import APP, lines, lives, until
from tests.support import web
from tmcp_serverless.cli.cluster import Cluster
from tmcp_serverless.cli.zygote import CHILDREN

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "trace"


@pytest.fixture
def cluster(trace: Path) -> Generator[Cluster]:
    with Cluster(APP, amnesia=True, env={"TRACE": str(trace)}) as cluster:
        yield cluster


def test_every_request_is_the_first_of_its_process(cluster: Cluster) -> None:
    with httpx.Client(timeout=web.LIMIT_SECONDS) as client:
        responses = [client.get(cluster.url) for _ in range(5)]
    bodies = [response.json() for response in responses]
    assert [body["served"] for body in bodies] == [1] * 5
    assert len({body["pid"] for body in bodies} - set(cluster.pids.values())) == 5
    assert [int(response.headers["x-tmcp-instance"]) for response in responses] == [
        body["pid"] for body in bodies
    ]
    assert {tuple(response.headers.get_list("connection")) for response in responses} == {("close",)}


def test_the_process_goes_with_its_request_and_the_lifespan_is_around_it(
    cluster: Cluster, trace: Path
) -> None:
    pid = web.get(cluster.url).json()["pid"]
    until(lambda: not lives(pid))
    assert lines(trace) == ["startup", "shutdown"]


def test_a_stream_arrives_as_it_is_sent(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "go"
    with web.stream("GET", f"{cluster.url}/stream", params={"file": str(file)}) as response:
        chunks = response.iter_text()
        assert next(chunks) == "data: first\n\n"
        file.touch()
        assert "".join(chunks) == "data: second\n\n"


def test_a_client_that_leaves_is_seen_by_the_application(
    cluster: Cluster, trace: Path, tmp_path: Path
) -> None:
    with web.stream("GET", f"{cluster.url}/stream", params={"file": str(tmp_path / "x")}) as response:
        assert next(response.iter_text()) == "data: first\n\n"
    until(lambda: lines(trace) == ["startup", "disconnect", "shutdown"])


def test_an_answer_before_the_body_was_read_arrives(cluster: Cluster) -> None:
    response = web.post(f"{cluster.url}/refuse", content=b"x" * 5_000_000)
    assert (response.status_code, len(response.content)) == (413, 8000)


def test_fifty_at_once_are_fifty_processes() -> None:
    with Cluster(APP, instances=2, amnesia=True) as cluster, ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(web.get, cluster.url, timeout=30) for _ in range(50)]
        assert len({each.result().json()["pid"] for each in asked}) == 50


def test_processes_are_bounded_and_the_others_wait(cluster: Cluster, trace: Path, tmp_path: Path) -> None:
    file, count = tmp_path / "go", CHILDREN + 6
    url = f"{cluster.url}/wait?file={file}"
    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(web.get, url, timeout=60) for _ in range(count)]
        until(lambda: lines(trace).count("enter") == CHILDREN)
        file.touch()
        assert [each.result().text for each in asked] == ["done"] * count
    inside, most = 0, 0
    for line in lines(trace):
        inside += {"enter": 1, "leave": -1}.get(line, 0)
        most = max(most, inside)
    assert most == CHILDREN


def test_a_crash_takes_only_its_own_request(cluster: Cluster) -> None:
    zygotes = cluster.pids
    with pytest.raises(httpx.RemoteProtocolError):
        web.get(f"{cluster.url}/crash")
    assert web.get(cluster.url).json()["served"] == 1
    assert cluster.pids == zygotes


def test_a_killed_instance_takes_its_requests_with_it(cluster: Cluster, tmp_path: Path) -> None:
    with web.stream("GET", f"{cluster.url}/stream", params={"file": str(tmp_path / "x")}) as response:
        chunks = response.iter_text()
        assert next(chunks) == "data: first\n\n"
        cluster.kill("1")
        with pytest.raises(httpx.RemoteProtocolError):
            next(chunks)
    until(lambda: not lives(int(response.headers["x-tmcp-instance"])))
    assert web.get(cluster.url).json()["served"] == 1


def test_an_instance_told_to_go_lets_its_requests_finish(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "go"
    with web.stream("GET", f"{cluster.url}/stream", params={"file": str(file)}) as response:
        chunks = response.iter_text()
        assert next(chunks) == "data: first\n\n"
        cluster.kill("1", signal.SIGTERM)
        file.touch()
        assert "".join(chunks) == "data: second\n\n"
    assert web.get(cluster.url).json()["served"] == 1


def test_a_lifespan_that_fails_is_answered_with_500() -> None:
    with Cluster(APP.replace(":app", ":failing"), amnesia=True) as cluster:
        response = web.get(cluster.url)
        assert (response.status_code, response.text) == (500, "The application's lifespan failed to start.\n")
        assert "no database" in cluster.output()
