"""The access log: the same lines as the ordinary log, written together, in order, none lost."""

import asyncio
import io
import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from select import PIPE_BUF
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.observability.access_log import AccessLog
from sluicegate.observability.logs import Log, configure_logs
from sluicegate.settings import ObservabilitySettings

NOW = 1_700_000_000.123_9
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SECONDS = st.floats(0, 1e6)


class Stream(io.StringIO):
    """Keeps what was written piece by piece, and tells when something was."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.written = asyncio.Event()

    def write(self, text: str) -> int:
        self.pieces.append(text)
        self.written.set()
        return super().write(text)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().split("\n")[:-1]]


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def _eager_switches() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def configured(**settings: str) -> Stream:
    stream = Stream()
    configure_logs(ObservabilitySettings(**{"log_format": "json", **settings}), stream)  # type: ignore[arg-type]
    return stream


def request(log: AccessLog, identifier: str = "req_1") -> None:
    log.request("acme", "POST", "/api/chat", 200, 0.0123456, identifier)


def test_a_handler_that_writes_nothing_changes_nothing() -> None:
    async def scenario() -> None:
        stream, log = configured(), AccessLog(lambda: NOW)
        nothing = logging.NullHandler()
        logging.getLogger("sluicegate").addHandler(nothing)
        try:
            request(log, "req_1")
            assert not stream.pieces
            log.close()
            assert [line["request_id"] for line in stream.lines()] == ["req_1"]
        finally:
            logging.getLogger("sluicegate").removeHandler(nothing)

    asyncio.run(scenario())


def test_a_line_is_written_within_the_time_without_any_other_line() -> None:
    async def scenario() -> None:
        stream, log = configured(), AccessLog(lambda: NOW)
        request(log, "req_1")
        request(log, "req_2")
        assert not stream.pieces
        await stream.written.wait()
        (text,) = stream.pieces
        first, second = text.splitlines(keepends=True)
        assert first == (
            '{"time":"2023-11-14T22:13:20.123+00:00","level":"info","logger":"sluicegate.access","event":"request",'
            '"tenant":"acme","method":"POST","route":"/api/chat","status":200,"duration_ms":12.35,'
            '"request_id":"req_1"}\n'
        )
        assert second == first.replace("req_1", "req_2")
        stream.written.clear()
        request(log, "req_3")
        await stream.written.wait()
        assert [line["request_id"] for line in stream.lines()] == ["req_1", "req_2", "req_3"]

    asyncio.run(scenario())


@given(WORDS, WORDS, WORDS, st.integers(100, 599), SECONDS, WORDS)
def test_a_line_is_what_the_ordinary_log_would_write(  # noqa: PLR0917 - the fields of a line
    tenant: str, method: str, route: str, status: int, seconds: float, identifier: str
) -> None:
    async def scenario() -> None:
        stream, log = configured(), AccessLog()
        log.request(tenant, method, route, status, seconds, identifier)
        fields = {"tenant": tenant, "method": method, "route": route, "status": status}
        duration = round(seconds * 1000, 2)
        Log("sluicegate.access").info("request", **fields, duration_ms=duration, request_id=identifier)
        ours, ordinary = (
            re.sub(r'"time":"[^"]*"', "", line) for line in stream.getvalue().removesuffix("\n").split("\n")
        )
        assert ours == ordinary
        assert {name: stream.lines()[0][name] for name in fields} == fields

    asyncio.run(scenario())


@given(st.text(st.characters(categories=["Cs", "Cc", "Lu"]), min_size=1, max_size=5))
def test_what_utf_8_cannot_say_still_makes_a_line_and_spoils_no_other(odd: str) -> None:
    async def scenario() -> None:
        stream, log = configured(), AccessLog()
        request(log, "before")
        log.request(odd, "POST", "/api/chat", 200, 0.1, "odd")
        request(log, "after")
        log.close()
        assert [line["request_id"] for line in stream.lines()] == ["before", "odd", "after"]
        assert stream.lines()[1]["tenant"] == odd.encode("utf-8", "backslashreplace").decode()

    asyncio.run(scenario())


def test_other_log_lines_keep_their_place_among_the_requests() -> None:
    async def scenario() -> None:
        stream, log, other = configured(), AccessLog(), Log("sluicegate.other")
        for number in range(6):
            if number % 3:
                request(log, f"req_{number}")
            else:
                other.info("other", request_id=f"req_{number}")
        log.close()
        assert [line["request_id"] for line in stream.lines()] == [f"req_{number}" for number in range(6)]

    asyncio.run(scenario())


def test_many_lines_are_written_at_once_in_pieces_of_whole_lines_that_a_pipe_takes_undivided() -> None:
    async def scenario() -> None:
        stream, log = configured(), AccessLog()
        while not stream.pieces:
            request(log, "é" * 40)
        lines = stream.lines()
        assert 100 < len(lines) < 1_000
        assert all(piece.endswith("\n") and len(piece.encode()) <= PIPE_BUF for piece in stream.pieces)
        assert len(stream.pieces) < len(lines) / 8
        stream.pieces.clear()
        request(log, "x" * PIPE_BUF)
        request(log, "y" * PIPE_BUF)
        request(log)
        log.close()
        assert [piece.count("\n") for piece in stream.pieces] == [1, 1, 1]

    asyncio.run(scenario())


def test_each_line_tells_its_own_time() -> None:
    async def scenario() -> None:
        times = iter([NOW, NOW, NOW + 0.001, NOW + 1, NOW])
        stream, log = configured(), AccessLog(lambda: next(times))
        for _ in range(5):
            request(log)
        log.close()
        told = [line["time"].removeprefix("2023-11-14T22:13:") for line in stream.lines()]
        assert [time.removesuffix("+00:00") for time in told] == ["20.123", "20.123", "20.124", "21.123", "20.123"]

    asyncio.run(scenario())


@pytest.mark.usefixtures("_eager_switches")
def test_lines_of_other_threads_neither_lose_nor_double_a_request() -> None:
    async def scenario() -> None:
        stream, log, other = configured(), AccessLog(), Log("sluicegate.other")

        def talk() -> None:
            for _ in range(500):
                other.info("other")

        thread = threading.Thread(target=talk)
        thread.start()
        for number in range(5_000):
            request(log, f"req_{number}")
        thread.join()
        log.close()
        lines = stream.lines()
        told = [line["request_id"] for line in lines if line["event"] == "request"]
        assert told == [f"req_{number}" for number in range(5_000)]
        assert len(lines) == 5_500

    asyncio.run(scenario())


@pytest.mark.parametrize("level", ["warning", "error"])
def test_above_the_level_of_information_nothing_is_written(level: str) -> None:
    async def scenario() -> None:
        stream, log = configured(log_level=level), AccessLog()
        request(log)
        log.close()
        assert not stream.pieces

    asyncio.run(scenario())


def test_a_level_that_changes_while_it_runs_counts_from_the_next_batch() -> None:
    async def scenario() -> None:
        stream, log = configured(log_level="warning"), AccessLog()
        request(log, "unseen")
        logging.getLogger().setLevel(logging.INFO)
        request(log, "seen")
        log.close()
        logging.getLogger().setLevel(logging.ERROR)
        request(log, "unseen again")
        log.close()
        assert [line["request_id"] for line in stream.lines()] == ["seen"]

    asyncio.run(scenario())


def test_the_console_form_goes_through_the_ordinary_log_at_once() -> None:
    async def scenario() -> None:
        stream, log = configured(log_format="console"), AccessLog()
        request(log)
        assert "request  tenant=acme method=POST route=/api/chat status=200" in stream.getvalue()

    asyncio.run(scenario())


def test_a_handler_of_somebody_else_sees_ordinary_records() -> None:
    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(vars(record)["fields"])

    async def scenario() -> None:
        stream, log, keeper = configured(), AccessLog(), Keeper()
        logging.getLogger("sluicegate").addHandler(keeper)
        try:
            request(log)
        finally:
            logging.getLogger("sluicegate").removeHandler(keeper)
        assert len(stream.lines()) == 1

    kept: list[dict[str, object]] = []
    asyncio.run(scenario())
    assert [fields["request_id"] for fields in kept] == ["req_1"]


def test_outside_of_an_event_loop_a_line_is_written_at_once() -> None:
    stream = configured()
    request(AccessLog())
    assert len(stream.lines()) == 1


def test_the_log_goes_on_in_another_event_loop() -> None:
    async def scenario(identifier: str) -> None:
        request(log, identifier)
        if identifier == "req_2":
            await stream.written.wait()

    log, stream = AccessLog(), configured()
    asyncio.run(scenario("req_1"))
    Log("sluicegate.other").info("between", request_id="none")
    stream.written.clear()
    asyncio.run(scenario("req_2"))
    assert [line["request_id"] for line in stream.lines()] == ["req_1", "none", "req_2"]


def test_a_closed_stream_harms_no_request_and_no_other_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)

    async def scenario() -> None:
        stream, log = configured(), AccessLog()
        request(log)
        stream.close()
        for _ in range(1_000):
            request(log)
        Log("sluicegate.other").info("other")
        log.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("end", ["", "raise RuntimeError('the end')", "sys.exit(3)"])
def test_at_the_end_of_the_program_collected_lines_are_written(end: str) -> None:
    script = (
        "import asyncio, sys\n"
        "from sluicegate.observability.access_log import AccessLog\n"
        "from sluicegate.observability.logs import configure_logs\n"
        "from sluicegate.settings import ObservabilitySettings\n"
        "async def serve():\n"
        "    AccessLog().request('acme', 'GET', '/', 200, 0.1, 'the last one')\n"
        f"    {end}\n"
        "configure_logs(ObservabilitySettings(log_format='json'))\n"
        "asyncio.run(serve())\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    (line,) = (line for line in ended.stderr.splitlines() if line.startswith("{"))
    assert json.loads(line)["request_id"] == "the last one"
