"""Callers who mean ill, or whose networks do, against the real server process on real sockets.

Each test ends with the same three looks: a good request is answered, descriptors are what they were, memory is bounded.
"""

import contextlib
import resource
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.chaos.watch import descriptors, kilobytes
from tests.gateway import PATIENCE, RunningGateway, eventually, running_gateway
from tests.upstream import Upstream, scripted_upstream

CONFIG = """
[server]
head_seconds = 1.0
client_idle_seconds = 1.0
max_body_bytes = 1000000
[[backends]]
name = "up"
kind = "openai"
url = "{url}"
models = ["steady", "endless", "flood", "slow-head", "huge"]
max_concurrency = 2000
"""
SPARE_DESCRIPTORS = 4
"""Connections to the upstream that wait for the next call or probe."""
SPARE_KILOBYTES = 24_000
"""What the process may keep for what comes next, whatever has come."""
RESET = struct.pack("ii", 1, 0)
LIVE = b"GET /health/live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with scripted_upstream() as running:
        yield running


@pytest.fixture(scope="module")
def served(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("hostile"), CONFIG.format(url=upstream.url)) as running:
        running.wait_ready()
        assert running.post("/v1/chat/completions", json=body("steady")).status_code == 200
        yield running


@pytest.fixture
def gateway(served: RunningGateway, upstream: Upstream) -> Iterator[RunningGateway]:
    """The gateway, which must be as it was once the test is over."""
    assert served.process is not None
    pid = served.process.pid
    before, memory = descriptors(pid), kilobytes(pid)
    yield served
    assert good_request(served) == 200
    eventually(lambda: descriptors(pid), lambda count: count <= before + SPARE_DESCRIPTORS)
    eventually(upstream.seen, lambda seen: seen["open"] == 0)
    assert kilobytes(pid) < memory + SPARE_KILOBYTES
    assert [line for line in served.log().splitlines() if '"level":"error"' in line or not line.startswith("{")] == []


def body(model: str, **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}


def chat(model: str, **more: object) -> bytes:
    request = httpx.Request("POST", "http://127.0.0.1/v1/chat/completions", json=body(model, **more))
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return head + b"content-length: %d\r\n\r\n%b" % (len(request.content), request.content)


def good_request(gateway: RunningGateway) -> int:
    """The status of a call that anyone may make."""
    return gateway.post("/v1/chat/completions", json=body("steady")).status_code


@contextlib.contextmanager
def callers(gateway: RunningGateway, count: int, *, buffers: int = 0) -> Iterator[list[socket.socket]]:
    """So many connections; `buffers`: bytes that the system may keep at their end, either way."""
    with contextlib.ExitStack() as stack:
        ends = []
        for _ in range(count):
            end = stack.enter_context(socket.socket())
            if buffers:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
            end.settimeout(PATIENCE)
            end.connect(("127.0.0.1", gateway.port))
            ends.append(end)
        yield ends


def rest_of(end: socket.socket) -> bytes:
    """Everything until the gateway closes."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := end.recv(65_536):
            data += piece
    return data


def push(end: socket.socket, data: bytes, most: int) -> int:
    """Send the data again and again until the gateway has taken no more for a while, or `most`; how much it took."""
    block = data * (65_536 // len(data) + 1)
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < most and select.select([], [end], [], 0.5)[1]:
            sent += end.send(block[sent % len(data) :], socket.MSG_DONTWAIT)
    return sent


def is_held(gateway: RunningGateway, end: socket.socket) -> bool:
    """Whether the gateway still has its end of the connection. The caller cannot tell while it reads nothing."""
    here = f":{gateway.port:04X} "
    there = f":{end.getsockname()[1]:04X} "
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return any(here in line[:20] and there in line[20:35] and line.split()[9] != "0" for line in lines)


def reset(end: socket.socket) -> None:
    """Leave by RST."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    end.close()


def test_heads_that_come_a_byte_at_a_time_are_ended_with_408(gateway: RunningGateway) -> None:
    with callers(gateway, 100) as ends:
        slow = dict.fromkeys(ends, LIVE[:-4] + b"x-slow: " + b"x" * 1_000)
        while slow:
            for end in select.select(list(slow), [], [], 0.2)[0]:
                assert rest_of(end).startswith(b"HTTP/1.1 408 ")
                del slow[end]
            for end, left in slow.items():
                with contextlib.suppress(ConnectionError):
                    end.send(left[:1])
                slow[end] = left[1:]
                assert left, "the head has been taken as if it were quick"
            assert good_request(gateway) == 200


def test_500_idle_connections_hold_up_nobody_and_are_let_go(gateway: RunningGateway) -> None:
    with callers(gateway, 500) as ends:
        assert good_request(gateway) == 200
        assert [rest_of(end) for end in ends] == [b""] * 500


def test_a_body_that_pauses_is_ended_with_408_and_one_that_only_drips_is_taken(gateway: RunningGateway) -> None:
    request = chat("steady")
    with callers(gateway, 41) as ends:
        for end in ends:
            end.sendall(request[:-20])
        dripping = ends.pop()
        for at in range(len(request) - 20, len(request)):
            dripping.sendall(request[at : at + 1])
            assert not select.select([dripping], [], [], 0.1)[0] or at > len(request) - 3
        assert dripping.recv(65_536).startswith(b"HTTP/1.1 200 ")
        assert {rest_of(end)[:13] for end in ends} == {b"HTTP/1.1 408 "}


def test_a_head_that_is_never_finished_is_let_go_when_its_caller_sends_no_more(gateway: RunningGateway) -> None:
    with callers(gateway, 20) as ends:
        for end in ends:
            end.sendall(LIVE[:-4])
            end.shutdown(socket.SHUT_WR)
        assert [rest_of(end) for end in ends] == [b""] * 20


def test_10_000_requests_in_one_write_are_answered_in_their_order(gateway: RunningGateway) -> None:
    assert gateway.process is not None
    pid, most = gateway.process.pid, 0
    head = b"GET /health/live HTTP/1.1\r\nhost: 127.0.0.1\r\nx-request-id: n%05d\r\n\r\n"
    left, answers = b"".join(head % number for number in range(10_000)), b""
    before = kilobytes(pid)
    with callers(gateway, 1) as (end,):
        while answers.count(b"x-request-id: ") < 10_000:
            readable, writable, _ = select.select([end], [end] if left else [], [], PATIENCE)
            if writable:
                left = left[end.send(left) :]
            if readable:
                piece = end.recv(65_536)
                assert piece
                answers += piece
                most = max(most, kilobytes(pid))
        told = [line for line in answers.split(b"\r\n") if line.startswith(b"x-request-id: ")]
        assert told == [b"x-request-id: n%05d" % number for number in range(10_000)]
    assert most < before + SPARE_KILOBYTES


@pytest.mark.parametrize("request_", [LIVE, chat("steady"), chat("flood", stream=True)], ids=["cold", "hot", "flood"])
def test_who_sends_on_and_on_and_reads_nothing_is_read_no_more_and_let_go(
    gateway: RunningGateway, request_: bytes
) -> None:
    with callers(gateway, 1, buffers=4_096) as (end,):
        assert is_held(gateway, end)
        assert push(end, request_, most=50_000_000) < 50_000_000
        assert good_request(gateway) == 200
        eventually(lambda: is_held(gateway, end), lambda held: not held)


def test_who_half_closes_behind_a_cold_request_is_answered_and_behind_a_stream_has_left(
    gateway: RunningGateway, upstream: Upstream
) -> None:
    before = upstream.seen()["cancelled"]
    with callers(gateway, 40) as ends:
        for end in ends[:20]:
            end.sendall(LIVE)
        for end in ends[20:]:
            end.sendall(chat("endless", stream=True))
            assert end.recv(1_024)
        for end in ends:
            end.shutdown(socket.SHUT_WR)
        assert {rest_of(end)[:13] for end in ends[:20]} == {b"HTTP/1.1 200 "}
        for end in ends[20:]:
            rest_of(end)
        eventually(lambda: upstream.seen()["cancelled"], lambda count: count == before + 20)


@pytest.mark.parametrize(
    ("sent", "heard"),
    [
        pytest.param(b"", 0, id="silent"),
        pytest.param(LIVE[:20], 0, id="in the head"),
        pytest.param(chat("steady")[:-5], 0, id="in the body"),
        pytest.param(LIVE, 20, id="between two requests"),
        pytest.param(LIVE * 50 + LIVE[:20], 20, id="in a pipeline"),
        pytest.param(chat("slow-head"), 0, id="before the head"),
        pytest.param(chat("slow-head", stream=True), 0, id="before the head of a stream"),
        pytest.param(chat("endless", stream=True), 200, id="between tokens"),
        pytest.param(chat("flood", stream=True), 20, id="in a flood"),
        pytest.param(chat("huge"), 20, id="in a long answer"),
    ],
)
def test_who_resets_the_connection_leaves_nothing_behind(gateway: RunningGateway, sent: bytes, heard: int) -> None:
    with callers(gateway, 30) as ends:
        for end in ends:
            end.sendall(sent)
        for end in ends:
            left = heard
            while left > 0:
                left -= len(end.recv(left))
        for end in ends:
            reset(end)
    assert good_request(gateway) == 200


def test_1_000_callers_who_connect_and_leave_at_once_hold_up_nobody(gateway: RunningGateway) -> None:
    for number in range(1_000):
        with socket.create_connection(("127.0.0.1", gateway.port)) as end:
            if number % 2:
                reset(end)
    assert good_request(gateway) == 200


def test_a_gateway_without_descriptors_waits_for_some_and_heals(upstream: Upstream, tmp_path: Path) -> None:
    with running_gateway(tmp_path, CONFIG.format(url=upstream.url)) as gateway:
        gateway.wait_ready()
        assert gateway.process is not None
        pid = gateway.process.pid
        before = descriptors(pid)
        lines = len(gateway.log().splitlines())
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (before + 20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        with callers(gateway, 100) as ends:
            eventually(lambda: descriptors(pid), lambda count: count >= before + 15)
            # Who was taken is let go when no head comes; so the others' turn comes, or they are refused.
            assert [rest_of(end) for end in ends] == [b""] * 100
        assert good_request(gateway) == 200
        eventually(lambda: descriptors(pid), lambda count: count <= before + SPARE_DESCRIPTORS)
        assert len(gateway.log().splitlines()) < lines + 50, gateway.log()[-2_000:]
