"""Several gateway processes behind one port: what one is asked is answered for all, and each may die."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.gateway import PATIENCE, RunningGateway, eventually, picture, running_gateway
from tests.upstream import Upstream, scripted_upstream

CONFIG = """
[server]
processes = 2
max_streams = {streams}
drain_seconds = {drain}
[[backends]]
name = "up"
kind = "openai"
url = "{url}"
models = ["steady", "endless"]
max_concurrency = {calls}
"""
BUILT_IN = """
[server]
processes = 2
[worker]
processes = 2
[[backends]]
name = "local-llm"
kind = "local-llm"
[[backends]]
name = "local-image"
kind = "local-image"
"""
COMPLETIONS = "/v1/chat/completions"


def config(upstream: Upstream, *, streams: int = 100, calls: int = 100, drain: float = 30) -> str:
    return CONFIG.format(url=upstream.url, streams=streams, calls=calls, drain=drain)


def body(model: str = "steady", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with scripted_upstream() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """Two processes, three streams, which no test breaks."""
    with running_gateway(tmp_path_factory.mktemp("processes"), config(upstream, streams=3, calls=2)) as running:
        running.wait_ready()
        yield running


class Callers(contextlib.ExitStack):
    """Connections to processes of one's choice."""

    def __init__(self, gateway: RunningGateway) -> None:
        super().__init__()
        self._gateway = gateway
        self._numbers = count()
        self._spare: dict[int, list[httpx.Client]] = {}
        self._kept: list[Iterator[str]] = []

    def to(self, process: int) -> httpx.Client:
        """A client with one connection, to that process: the kernel chooses, so some more are tried until it has."""
        while not self._spare.get(process):
            client = self.enter_context(httpx.Client(base_url=self._gateway.url, timeout=PATIENCE, trust_env=False))
            name = f"who-{os.getpid()}-{id(self)}-{next(self._numbers)}"
            client.get("/health/live", headers={"x-request-id": name}).raise_for_status()
            self._spare.setdefault(served_by(self._gateway, name), []).append(client)
        return self._spare[process].pop()

    def stream(self, process: int, name: str, model: str = "endless", **more: Any) -> Iterator[str]:
        """The lines of a streamed call that has begun at the process."""
        asked = self.to(process).stream(
            "POST", COMPLETIONS, json=body(model, stream=True, **more), headers={"x-request-id": name}
        )
        answer = self.enter_context(asked)
        assert answer.status_code == 200, answer.read()
        lines = answer.iter_lines()
        next(lines)
        self._kept.append(lines)  # a generator that nobody has closes its answer
        return lines


def served_by(gateway: RunningGateway, request_id: str) -> int:
    """The number of the process whose log has the request."""
    found = eventually(lambda: [line for line in gateway.log().splitlines() if f'"{request_id}"' in line], bool)
    return int(json.loads(found[0])["process"])


def processes(gateway: RunningGateway) -> dict[str, dict[str, Any]]:
    return {process["name"]: process for process in gateway.get("/health").json()["processes"]}


def answered(metrics: str, path: str = COMPLETIONS) -> int:
    """Requests that were answered with 200, by the text of the metrics."""
    pattern = rf'^http_requests_total{{method="POST",path="{re.escape(path)}",status_code="200"}} (\S+)$'
    return int(sum(float(number) for number in re.findall(pattern, metrics, re.MULTILINE)))


def value(metrics: str, name: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith(name))


def streams(client: httpx.Client) -> dict[str, int]:
    counts: dict[str, int] = client.get("/api/chat/streams").json()
    return counts


def listening_sockets(port: int) -> int:
    """How many sockets of this machine listen on the port of 127.0.0.1."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1] == f"0100007F:{port:04X}" and line.split()[3] == "0A" for line in lines)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def family(root: int) -> dict[int, str]:
    """The process and everything below it: command by id."""
    parents, commands = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid = int(stat.parent.name)
            parents[pid] = int(stat.read_text().rpartition(")")[2].split()[1])
            commands[pid] = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: commands.get(pid, "") for pid in found}


def test_both_processes_serve_and_health_tells_of_each(gateway: RunningGateway) -> None:
    told = processes(gateway)
    assert set(told) == {"gateway 1", "gateway 2", "plant"}
    assert {process["state"] for process in told.values()} == {"up"}
    assert len({process["pid"] for process in told.values()}) == 3
    with Callers(gateway) as callers:
        for number in (1, 2):
            assert callers.to(number).post(COMPLETIONS, json=body()).status_code == 200


def test_metrics_are_exactly_those_of_all_processes_whichever_is_asked(gateway: RunningGateway) -> None:
    with Callers(gateway) as callers:
        one, two = callers.to(1), callers.to(2)
        before, streams_before = answered(one.get("/metrics").text), streams(two)
        for client, calls in ((one, 7), (two, 5)):
            for _ in range(calls):
                assert client.post(COMPLETIONS, json=body()).status_code == 200
        for _ in range(3):
            for client in (one, two):
                text = client.get("/metrics").text
                assert answered(text) == before + 12
                assert value(text, "sluicegate_backend_limit{") == 2 * 2, "two models of one backend, not per process"
                assert streams(client)["completed"] == streams_before["completed"] + 12


def test_running_streams_are_counted_and_bounded_over_all_processes(gateway: RunningGateway) -> None:
    with Callers(gateway) as callers:
        one, two = callers.to(1), callers.to(2)
        with Callers(gateway) as running:
            for name, process in (("full-1", 1), ("full-2", 2)):
                running.stream(process, name)
            for client in (one, two):
                assert streams(client)["active"] == 2
                assert value(client.get("/metrics").text, "sluicegate_backend_inflight{") == 2
                refused = client.post(COMPLETIONS, json=body())
                assert refused.status_code == 503
                assert "max_concurrency" in refused.text
        eventually(lambda: streams(one)["active"], lambda active: active == 0)
        assert two.post(COMPLETIONS, json=body()).status_code == 200


def test_max_streams_holds_over_all_processes(upstream: Upstream, tmp_path: Path) -> None:
    with running_gateway(tmp_path, config(upstream, streams=3)) as gateway, Callers(gateway) as callers:
        gateway.wait_ready()
        one, two = callers.to(1), callers.to(2)
        with Callers(gateway) as running:
            for name, process in (("s-1", 1), ("s-2", 1), ("s-3", 2)):
                running.stream(process, name)
            for client in (one, two):
                refused = client.post(COMPLETIONS, json=body())
                assert refused.status_code == 503
                assert "server.max_streams" in refused.text
                assert refused.headers["retry-after"]
        eventually(lambda: streams(two)["active"], lambda active: active == 0)
        assert one.post(COMPLETIONS, json=body()).status_code == 200


def test_a_stream_is_cancelled_by_its_id_through_another_process(gateway: RunningGateway) -> None:
    with Callers(gateway) as callers:
        for here, there in ((1, 2), (2, 1)):
            lines = callers.stream(here, f"cancelled-{here}")
            told = callers.to(there).delete(f"/api/chat/cancelled-{here}")
            assert (told.status_code, told.json()["cancelled"]) == (200, True)
            assert any('"canceled"' in line for line in lines)
            again = callers.to(there).delete(f"/api/chat/cancelled-{here}")
            assert again.status_code == 404


def test_streams_of_one_id_in_two_processes_are_cancelled_together(gateway: RunningGateway) -> None:
    with Callers(gateway) as callers:
        for number in (1, 2):
            both = [callers.stream(process, f"twice-{number}") for process in (1, 2)]
            client = callers.to(number)
            assert client.delete(f"/api/chat/twice-{number}").status_code == 200
            eventually(lambda: streams(client)["active"], lambda active: active == 0)  # noqa: B023
            for lines in both:
                assert any('"canceled"' in line for line in lines)
            assert callers.to(number).delete(f"/api/chat/twice-{number}").status_code == 404


def test_a_killed_process_is_replaced_while_the_other_serves_and_no_count_is_lost(
    upstream: Upstream, tmp_path: Path
) -> None:
    with running_gateway(tmp_path, config(upstream, streams=2)) as gateway, Callers(gateway) as callers:
        gateway.wait_ready()
        one, two = callers.to(1), callers.to(2)
        for client in (one, two, one):
            assert client.post(COMPLETIONS, json=body()).status_code == 200
        lines = callers.stream(1, "dies")
        callers.stream(2, "lives")
        assert answered(two.get("/metrics").text) == 3
        os.kill(processes(gateway)["gateway 1"]["pid"], signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            list(lines)
        assert answered(two.get("/metrics").text) == 3
        # The limit of two streams: the broken one counts no more, whether its process is back or not.
        eventually(lambda: two.post(COMPLETIONS, json=body()).status_code, lambda status: status == 200)
        # Half of these connect to the dead process's socket, and are served by the new one.
        assert [gateway.post(COMPLETIONS, json=body()).status_code for _ in range(10)] == [200] * 10
        back = eventually(
            lambda: processes(gateway)["gateway 1"], lambda it: it["state"] == "up" and it["restarts"] > 0
        )
        assert back["restarts"] == 1
        for client in (callers.to(1), two):
            assert answered(client.get("/metrics").text) == 14
            assert streams(client)["active"] == 1
        assert processes(gateway)["gateway 2"]["restarts"] == 0


def test_a_process_that_does_not_come_back_leaves_its_callers_to_the_others_until_it_does(
    upstream: Upstream, tmp_path: Path
) -> None:
    with running_gateway(tmp_path, config(upstream)) as gateway, Callers(gateway) as callers:
        gateway.wait_ready()
        two = callers.to(2)
        database, aside = gateway.data_dir / "sluicegate.db", gateway.data_dir / "aside.db"
        database.rename(aside)
        database.write_text("no database")
        dead = processes(gateway)["gateway 1"]
        os.kill(dead["pid"], signal.SIGKILL)

        def told() -> dict[str, Any]:
            listed = two.get("/health").json()["processes"]
            return next(process for process in listed if process["name"] == "gateway 1")

        failing = eventually(told, lambda it: it["restarts"] > 1)
        assert "no SQLite database" in failing["reason"]
        assert two.get("/health").json()["status"] != "ok"
        assert [gateway.post(COMPLETIONS, json=body()).status_code for _ in range(10)] == [200] * 10
        aside.rename(database)
        eventually(told, lambda it: it["state"] == "up")
        assert callers.to(1).post(COMPLETIONS, json=body()).status_code == 200


def test_sigterm_lets_the_streams_of_all_processes_end(upstream: Upstream, tmp_path: Path) -> None:
    slow = {"script": {"tokens": 100, "token_delay": 0.02}}
    with running_gateway(tmp_path, config(upstream)) as gateway, Callers(gateway) as callers:
        gateway.wait_ready()
        asked = [callers.to(process) for process in (1, 2)]
        calls = {"ends-1": 1, "ends-2": 2, "ends-3": 2}
        running = [callers.stream(process, name, "steady", **slow) for name, process in calls.items()]
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGTERM)
        for client in asked:
            eventually(partial(client.get, "/health/ready"), lambda answer: answer.status_code == 503)
            assert client.post(COMPLETIONS, json=body()).status_code == 503
        assert ["data: [DONE]" in list(lines) for lines in running] == [True] * 3
        assert gateway.stop() == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", gateway.port))


def test_callers_get_to_those_that_still_answer_when_one_process_has_stopped_before_the_others(
    upstream: Upstream, tmp_path: Path
) -> None:
    with running_gateway(tmp_path, config(upstream)) as gateway, Callers(gateway) as callers:
        gateway.wait_ready()
        idle = processes(gateway)["gateway 1"]["pid"]
        lines = callers.stream(2, "last", "steady", script={"tokens": 100, "token_delay": 0.02})
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGTERM)
        eventually(lambda: listening_sockets(gateway.port), lambda sockets: sockets == 1)
        assert not is_alive(idle)
        assert {gateway.post(COMPLETIONS, json=body()).status_code for _ in range(8)} == {503}
        assert "data: [DONE]" in list(lines)
        assert gateway.stop() == 0


def test_streams_that_outlast_the_drain_are_told_so_in_every_process(upstream: Upstream, tmp_path: Path) -> None:
    with running_gateway(tmp_path, config(upstream, drain=1)) as gateway, Callers(gateway) as callers:
        gateway.wait_ready()
        running = [callers.stream(process, f"cut-{process}") for process in (1, 2)]
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGTERM)
        assert [any('"draining"' in line for line in lines) for lines in running] == [True, True]
        assert gateway.stop() == 0


def test_nothing_is_left_when_the_supervisor_is_killed(upstream: Upstream, tmp_path: Path) -> None:
    with running_gateway(tmp_path, BUILT_IN + config(upstream).partition("drain_seconds = 30\n")[2]) as gateway:
        gateway.wait_ready()
        assert gateway.process is not None
        everyone = family(gateway.process.pid)
        assert len(everyone) == 7, everyone
        with Callers(gateway) as callers:
            lines = callers.stream(2, "last", "steady", script={"tokens": 60, "token_delay": 0.02})
            gateway.kill()
            assert "data: [DONE]" in list(lines), "it drains by itself"
        eventually(lambda: {pid: name for pid, name in everyone.items() if is_alive(pid)}, lambda left: not left)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", gateway.port))


def test_workers_and_model_run_once_and_serve_all_processes(tmp_path: Path) -> None:
    chat = {"model": "smollm2-135m", "max_tokens": 3, "messages": [{"role": "user", "content": "Hello"}]}
    with running_gateway(tmp_path, BUILT_IN) as gateway, Callers(gateway) as callers:
        gateway.wait_ready()
        assert gateway.process is not None
        running = Counter(
            word
            for command in family(gateway.process.pid).values()
            for word in ("app.worker", "local_llm_child", "gateway_process", "plant_process")
            if word in command
        )
        assert running == {"app.worker": 2, "local_llm_child": 1, "gateway_process": 2, "plant_process": 1}
        one, two = callers.to(1), callers.to(2)
        for client in (one, two):
            assert client.post(COMPLETIONS, json=chat).status_code == 200
        image = one.post("/v1/assets", content=picture(), headers={"content-type": "image/png"}).json()["id"]
        job = two.post("/v1/jobs", json={"model": "realesrgan-x2", "input": {"image": image}}).json()["id"]
        ended = eventually(lambda: one.get(f"/v1/jobs/{job}").json(), lambda it: it["status"] != "queued")
        assert ended["id"] == job
        assert gateway.finished(job)["status"] == "succeeded"

        os.kill(processes(gateway)["plant"]["pid"], signal.SIGKILL)
        eventually(lambda: processes(gateway)["plant"], lambda it: it["state"] == "up" and it["restarts"] == 1)
        gateway.wait_ready()
        for client in (one, two):
            assert client.post(COMPLETIONS, json=chat).status_code == 200
        assert {name: process["restarts"] for name, process in processes(gateway).items()} == {
            "gateway 1": 0, "gateway 2": 0, "plant": 1,
        }  # fmt: skip

        lines = callers.stream(1, "long", "smollm2-135m", max_tokens=200, ignore_eos=True)
        gateway.process.send_signal(signal.SIGTERM)
        assert "data: [DONE]" in list(lines), "the model outlives the answers that it makes"
        assert gateway.stop() == 0


def test_a_store_that_cannot_be_opened_is_told_at_the_start(upstream: Upstream, tmp_path: Path) -> None:
    gateway = RunningGateway(tmp_path, config(upstream), {})
    (tmp_path / "file").write_text("no folder")
    done = subprocess.run(
        gateway.command(),
        env={**os.environ, "SLUICEGATE__STORAGE__URL": f"sqlite:///{tmp_path}/file/below.db"},
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 1
    assert "plant did not start" in done.stderr
    assert "cannot be made" in done.stderr
