from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.cli.support import APP, LIMIT_SECONDS, lines, lives, until
from tests.support import web
from tmcp_serverless.cli import processes
from tmcp_serverless.cli.cluster import Cluster, ClusterError
from tmcp_serverless.cli.loading import LoadError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@pytest.fixture(scope="module")
def cluster() -> Generator[Cluster]:
    """Three instances, for the tests that leave them as they are."""
    with Cluster(APP, instances=3, database_url="postgresql://nowhere/x", env={"COLOR": "red"}) as cluster:
        yield cluster


def who(url: str, **params: str) -> Any:
    return web.get(url, params=params).raise_for_status().json()


def test_requests_take_turns_even_on_one_client(cluster: Cluster) -> None:
    with httpx.Client(timeout=web.LIMIT_SECONDS) as client:
        pids = [client.get(cluster.url).json()["pid"] for _ in range(6)]
    assert pids[:3] == pids[3:]
    assert sorted(pids[:3]) == sorted(cluster.pids.values())


def test_every_response_names_its_instance_and_closes_the_connection(cluster: Cluster) -> None:
    response = web.get(cluster.url)
    assert response.headers.get_list("connection") == ["close"]
    assert cluster.pids[response.headers["x-tmcp-instance"]] == response.json()["pid"]


def test_an_instance_can_be_asked_directly(cluster: Cluster) -> None:
    for name, pid in cluster.pids.items():
        assert who(cluster.instance_url(name))["pid"] == pid


def test_instances_get_the_database_and_the_environment(cluster: Cluster) -> None:
    env = who(cluster.url, TMCP_DATABASE_URL="", COLOR="", PATH="")["env"]
    assert env == {
        "TMCP_DATABASE_URL": "postgresql://nowhere/x",
        "COLOR": "red",
        "PATH": os.environ["PATH"],
    }


def test_a_stream_arrives_as_it_is_sent(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "go"
    with web.stream("GET", f"{cluster.url}/stream", params={"file": str(file)}) as response:
        chunks = response.iter_text()
        assert next(chunks) == "data: first\n\n"
        file.touch()
        assert "".join(chunks) == "data: second\n\n"


def test_an_answer_before_the_body_was_read_arrives(cluster: Cluster) -> None:
    # uvicorn closes with bytes unread, so that its own kernel may throw the answer away: not every time.
    answers: list[tuple[int, int]] = []
    for _ in range(5):
        with contextlib.suppress(httpx.RemoteProtocolError, httpx.ReadError):
            response = web.post(f"{cluster.url}/refuse", content=b"x" * 5_000_000)
            answers.append((response.status_code, len(response.content)))
    assert set(answers) == {(413, 8000)}


def test_a_client_that_leaves_is_seen_by_the_application(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with Cluster(APP, env={"TRACE": str(trace)}) as cluster:
        with web.stream("GET", f"{cluster.url}/stream", params={"file": str(tmp_path / "x")}) as response:
            assert next(response.iter_text()) == "data: first\n\n"
        until(lambda: "disconnect" in lines(trace))


def test_a_killed_instance_is_replaced_and_meanwhile_the_others_answer() -> None:
    with Cluster(APP, instances=2) as cluster:
        before = cluster.pids
        cluster.kill("1")
        assert {who(cluster.url)["pid"] for _ in range(4)} <= {before["2"], *cluster.pids.values()}
        until(lambda: cluster.pids.get("1") not in {None, before["1"]})
        until(lambda: who(cluster.url)["pid"] == cluster.pids["1"])
        assert cluster.pids["2"] == before["2"]
        assert "Instance 1 has ended (signal SIGKILL); starting another." in cluster.output()


def test_an_instance_that_crashes_breaks_its_request_alone() -> None:
    with Cluster(APP, instances=2) as cluster:
        with pytest.raises(httpx.RemoteProtocolError):
            web.get(f"{cluster.url}/crash")
        assert who(cluster.url)
        until(lambda: "exit code 3" in cluster.output())
        assert "I am going down" in cluster.output()


def test_an_instance_that_keeps_dying_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_BACKOFF_SECONDS", 0)
    with Cluster(APP) as cluster:
        while cluster.running():
            cluster.kill("1")
        assert "keeps ending" in str(cluster.failure)
        assert cluster.pids == {}


def test_an_instance_told_to_go_finishes_its_response(tmp_path: Path) -> None:
    file, trace = tmp_path / "go", tmp_path / "trace"
    with Cluster(APP, env={"TRACE": str(trace)}) as cluster:
        pid = cluster.pids["1"]
        with web.stream("GET", f"{cluster.url}/stream", params={"file": str(file)}) as response:
            chunks = response.iter_text()
            assert next(chunks) == "data: first\n\n"
            cluster.kill("1", signal.SIGTERM)
            file.touch()
            assert "".join(chunks) == "data: second\n\n"
        until(lambda: not lives(pid))
        until(lambda: "shutdown" in lines(trace))
        until(lambda: cluster.pids.get("1") not in {None, pid})


@pytest.mark.parametrize("amnesia", [False, True])
def test_stop_ends_everything_within_four_seconds(tmp_path: Path, *, amnesia: bool) -> None:
    trace = tmp_path / "trace"
    cluster = Cluster(APP, instances=2, amnesia=amnesia, env={"TRACE": str(trace)}).start()
    pids = list(cluster.pids.values())
    with web.stream("GET", f"{cluster.url}/stream", params={"file": str(tmp_path / "x")}) as stream:
        chunks = stream.iter_text()
        assert next(chunks) == "data: first\n\n"
        if amnesia:
            pids.append(int(stream.headers["x-tmcp-instance"]))
        begun = time.monotonic()
        cluster.stop()
        assert time.monotonic() - begun < 4
        with pytest.raises(httpx.RemoteProtocolError):
            next(chunks)
    assert not any(lives(pid) for pid in pids)
    assert "disconnect" in lines(trace)
    assert not cluster.running()
    cluster.stop()


@pytest.mark.parametrize("amnesia", [False, True])
def test_stop_ends_what_does_not_react_by_force(tmp_path: Path, *, amnesia: bool) -> None:
    trace = tmp_path / "trace"
    with ThreadPoolExecutor() as pool:
        with Cluster(APP, amnesia=amnesia, env={"TRACE": str(trace)}) as cluster:
            asked = pool.submit(web.get, f"{cluster.url}/block", timeout=60)
            [pid] = until(lambda: [line.split()[1] for line in lines(trace) if line.startswith("blocked")])
            begun = time.monotonic()
        assert time.monotonic() - begun < 5
        assert isinstance(asked.exception(), httpx.RemoteProtocolError)
    until(lambda: not lives(int(pid)))


@pytest.mark.parametrize("amnesia", ["", "yes"])
def test_instances_go_when_the_process_of_the_cluster_is_killed(amnesia: str) -> None:
    code = (
        "import sys; from tmcp_serverless.cli.cluster import Cluster\n"
        "cluster = Cluster(sys.argv[1], instances=2, amnesia=bool(sys.argv[2])).start()\n"
        "print(*cluster.pids.values(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, APP, amnesia], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert [lives(pid) for pid in pids] == [True, True]
        process.kill()
        process.wait(LIMIT_SECONDS)
    until(lambda: not any(lives(pid) for pid in pids))


def test_a_lifespan_that_fails_is_an_error_with_the_output() -> None:
    with pytest.raises(ClusterError, match=r"Instance 1 ended before it was ready \(exit code 3\)") as caught:
        Cluster(APP.replace(":app", ":failing")).start()
    assert "no database" in str(caught.value)


def test_a_module_that_fails_is_an_error_with_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def early():\n    return 1 / 0\n\nserver = early()\n")
    with pytest.raises(ClusterError) as caught:
        Cluster("broken.py:server", folder=tmp_path).start()
    sentence, *output = str(caught.value).splitlines()
    assert sentence == "broken.py could not be imported: ZeroDivisionError: division by zero"
    assert "    return 1 / 0" in output


def test_an_attribute_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(ClusterError) as caught:
        Cluster(APP.replace(":app", ":nothing")).start()
    path = APP.removesuffix(":app")
    assert str(caught.value) == f"{path} has no 'nothing'; did you mean app or failing?"


def test_an_instance_that_does_not_get_ready_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(ClusterError, match=r"Instance 1 was not ready after 0\.5 seconds"):
        Cluster("slow.py:app", folder=tmp_path, start_seconds=0.5).start()


def test_what_cannot_be_a_target_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"no file missing\.py"):
        Cluster("missing.py:app", folder=tmp_path)
    with pytest.raises(ClusterError, match="at least one"):
        Cluster(APP, instances=0)


def test_a_failing_block_shows_what_the_instances_said() -> None:
    with pytest.raises(httpx.RemoteProtocolError) as caught, Cluster(APP) as cluster:
        web.get(f"{cluster.url}/crash")
    assert any("I am going down" in note for note in caught.value.__notes__)
