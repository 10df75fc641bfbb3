"""The two C programs of the bench, compiled and run."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bench.lane.bed import Bed, prepared_bed
from bench.lane.contender import Launch
from bench.lane.contenders.direct import Direct
from bench.lane.hardship import Measure, hardships
from bench.lane.load import ClosedLoop, Load, endured
from bench.lane.programs import compiler
from bench.lane.running import Running
from bench.lane.scenarios import FLOOD, MODELS, QUIET

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler here")

PATIENCE = 30.0


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with prepared_bed() as bed:
        yield bed


def direct(port: int) -> Running:
    return Running("direct", port, Launch())


def exchange(port: int, request: bytes, until: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(request)
        answer = b""
        while not answer.endswith(until):
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece
    return answer


def events(answer: bytes) -> list[str]:
    return [line.removeprefix("data: ") for line in answer.decode().split("\n") if line.startswith("data: ")]


def eventually(look: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)


def closed_loop(bed: Bed, port: int, model: str, *, stream: bool, connections: int = 1) -> ClosedLoop:
    """Measured until something was answered: on a busy machine a short span may pass without."""
    end = time.monotonic() + PATIENCE
    while True:
        loop = bed.load.closed_loop(
            direct(port), model, stream=stream, connections=connections, seconds=0.2, warmup=0.02
        )
        if loop.requests:
            return loop
        assert time.monotonic() < end, "nothing was answered"


@contextmanager
def scripted_server(answer: bytes, *, piece: int) -> Iterator[int]:
    """A server that sends the same bytes to every request, `piece` at a time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection: socket.socket) -> None:
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    while connection.recv(65536):
                        for at in range(0, len(answer), piece):
                            connection.sendall(answer[at : at + piece])
                except OSError:
                    return

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE)


def test_the_model_s_name_says_how_many_tokens_come_and_how_large_they_are(bed: Bed) -> None:
    request = direct(bed.upstream.port).request("mock-t0-n3-g1-w0-s7", stream=True)
    told = events(exchange(bed.upstream.port, request, b"0\r\n\r\n"))
    assert told[-1] == "[DONE]"
    tokens: list[dict[str, Any]] = [json.loads(event) for event in told[:-1]]
    texts = [token["choices"][0]["delta"].get("content", "") for token in tokens]
    assert [len(text) for text in texts] == [1 + 19 + 7] * 3 + [0]
    assert tokens[-1]["usage"]["total_tokens"] == 57


def test_a_token_carries_the_time_at_which_it_was_made(bed: Bed) -> None:
    before = time.monotonic_ns()
    request = direct(bed.upstream.port).request("mock-t0-n1-g0-w0-s0", stream=True)
    first = json.loads(events(exchange(bed.upstream.port, request, b"0\r\n\r\n"))[0])
    made = int(first["choices"][0]["delta"]["content"][1:20])
    assert before <= made <= time.monotonic_ns()


def test_every_address_of_the_upstream_lists_its_own_model(bed: Bed) -> None:
    listed = []
    for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
        with socket.create_connection((host, bed.upstream.port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n")
            body = connection.recv(65536).partition(b"\r\n\r\n")[2]
            listed.append([model["id"] for model in json.loads(body)["data"]])
    assert listed == [list(MODELS), [MODELS[0]], [MODELS[1]]]


@pytest.mark.parametrize("stream", [False, True])
def test_a_closed_loop_counts_every_answer_and_misses_no_token(bed: Bed, *, stream: bool) -> None:
    before = bed.upstream.stats()
    loop = closed_loop(bed, bed.upstream.port, MODELS[0], stream=stream, connections=4)
    assert (loop.failed, loop.refused, loop.cut_short) == (0, 0, 0)
    assert loop.tokens >= 32 * (loop.requests - 4) * stream
    after = bed.upstream.stats()
    served = after.streams_done - before.streams_done if stream else after.plain_done - before.plain_done
    assert served >= loop.requests


TOKEN = b'data: {"choices":[{"delta":{"content":"~%019d"}}]}\n\n'


def streamed(tokens: int) -> bytes:
    body = b"".join(b"%x;why=not\r\n%s\r\n" % (len(TOKEN % at), TOKEN % at) for at in range(tokens))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\nTrailer: yes\r\n\r\n"


@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_an_answer_is_read_the_same_in_pieces_of_any_size(bed: Bed, piece: int) -> None:
    with scripted_server(streamed(5), piece=piece) as port:
        loop = closed_loop(bed, port, "mock-t0-n5", stream=True)
    assert (loop.failed, loop.refused, loop.cut_short) == (0, 0, 0)


def test_an_answer_that_lacks_a_token_is_told_of(bed: Bed) -> None:
    with scripted_server(streamed(4), piece=100_000) as port:
        loop = closed_loop(bed, port, "mock-t0-n5", stream=True)
    assert loop.cut_short == loop.requests


def test_an_answer_with_another_status_is_told_of(bed: Bed) -> None:
    refusal = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}"
    with scripted_server(refusal, piece=100_000) as port:
        loop = closed_loop(bed, port, MODELS[0], stream=False)
    assert loop.refused == loop.requests


def test_levels_of_open_streams_are_reached_one_after_the_other(bed: Bed) -> None:
    levels = bed.load.hold(direct(bed.upstream.port), QUIET, [0, 5, 20], rate=1_000, settle=0.1)
    assert [(level.streams, level.with_first_token) for level in levels] == [(0, 0), (5, 5), (20, 20)]
    eventually(lambda: bed.upstream.stats().active == 0)


def test_callers_that_never_read_bring_the_upstream_to_a_halt(bed: Bed) -> None:
    cancelled = bed.upstream.stats().cancelled
    callers = bed.load.endure(direct(bed.upstream.port), "stall", FLOOD, connections=3, seconds=1)
    told = endured(callers)
    assert told.counts.bytes == 0
    eventually(lambda: bed.upstream.stats().cancelled == cancelled + 3)


def test_callers_that_vanish_are_counted_as_cancelled(bed: Bed) -> None:
    cancelled = bed.upstream.stats().cancelled
    callers = bed.load.endure(direct(bed.upstream.port), "vanish", QUIET, connections=5, seconds=1, linger=50)
    told = endured(callers)
    assert told.counts.left > 0
    eventually(lambda: bed.upstream.stats().cancelled >= cancelled + told.counts.left)


def test_a_gateway_that_dies_at_its_start_is_told_of_and_the_others_go_on(bed: Bed) -> None:
    class Dying:
        name, processes = "dying", 1

        def install(self) -> str:
            return "1"

        def launch(self, ground: object) -> Launch:
            return Launch(command=("sh", "-c", "echo I cannot >&2; exit 3"))

    few = Measure(vanishing=1, stalled=1, stall_seconds=0.2, crowd=3, crowd_seconds=0.2)
    found, failures = hardships(bed, [Dying(), Direct()], few, advance=lambda _: None)
    assert not found.stalls
    assert {failure.contender for failure in failures} == {"dying"}
    assert all("I cannot" in failure.why for failure in failures)


def test_a_load_generator_that_fails_says_why(bed: Bed, tmp_path: Path) -> None:
    from bench.lane.load import LoadFailed

    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho out of luck >&2\nexit 1\n")
    broken.chmod(0o700)
    with pytest.raises(LoadFailed, match="out of luck"):
        Load(broken, bed.cores.load).closed_loop(
            direct(1), MODELS[0], stream=False, connections=1, seconds=0.1, warmup=0
        )


def test_the_statistics_hold_together(bed: Bed) -> None:
    stats = bed.upstream.stats()
    assert stats.requests >= stats.plain_done + stats.streams_done + stats.cancelled
    assert msgspec.json.decode(msgspec.json.encode(stats), type=type(stats)) == stats
