"""Supervised processes, with real children."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from sluicegate.supervision import Backoff, Change, ProcessState, SupervisedProcess

READY = "from sluicegate.supervision import exit_with_parent, tell_ready\nimport os, signal, sys, threading\n"
WELL = READY + "exit_with_parent(lambda: os._exit(0))\ntell_ready(port=7)\nthreading.Event().wait()\n"
EAGER = Backoff(first=0.01, most=0.02)


class Recorder:
    """The changes of one process, to be waited for."""

    def __init__(self, process: SupervisedProcess) -> None:
        self.changes: list[Change] = []
        self._news = asyncio.Event()
        process.listen(self._take)

    async def until(self, state: ProcessState, times: int = 1) -> Change:
        async with asyncio.timeout(30):
            while len(found := [change for change in self.changes if change.state == state]) < times:
                self._news.clear()
                await self._news.wait()
        return found[times - 1]

    def _take(self, change: Change) -> None:
        self.changes.append(change)
        self._news.set()


class StillClock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


def child(code: str, **options: Any) -> SupervisedProcess:
    return SupervisedProcess([sys.executable, "-c", code], name="child", backoff=EAGER, **options)


def run(process: SupervisedProcess, scene: Callable[[Recorder], Any]) -> None:
    """Play a scene with a started process and stop it afterwards."""

    async def play() -> None:
        recorder = Recorder(process)
        await process.start()
        try:
            await scene(recorder)
        finally:
            await process.stop(grace=5)
        assert process.state == "stopped"
        assert process.pid is None

    asyncio.run(play())


def has_ended(pid: int, timeout: float = 20.0) -> bool:
    """Wait for a process that need not be ours to end."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], timeout)[0])
    finally:
        os.close(handle)


def test_a_child_is_up_when_its_ready_line_comes_and_brings_its_fields() -> None:
    process = child("print('warming up')\n" + WELL)

    async def scene(recorder: Recorder) -> None:
        change = await recorder.until("up")
        assert change.ready == {"port": 7}
        assert process.state == "up"
        assert [each.state for each in recorder.changes] == ["starting", "up"]

    run(process, scene)


def test_a_killed_child_is_told_to_the_hook_and_started_again_at_once() -> None:
    ends: list[tuple[int, int]] = []

    async def note(pid: int, returncode: int) -> None:
        ends.append((pid, returncode))

    process = child(WELL, on_exit=note)

    async def scene(recorder: Recorder) -> None:
        await recorder.until("up")
        first = process.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert "SIGKILL" in (await recorder.until("down")).reason
        await recorder.until("up", times=2)
        assert ends == [(first, -signal.SIGKILL)]
        assert process.restarts == 1
        assert process.pid not in (None, first)

    run(process, scene)


def test_a_child_that_fails_leaves_its_last_words_as_the_reason() -> None:
    process = child("import sys; sys.stderr.write('no such model\\n'); sys.exit(3)")

    async def scene(recorder: Recorder) -> None:
        assert (await recorder.until("down")).reason == "exited with code 3: no such model"
        await recorder.until("starting", times=4)

    run(process, scene)


def test_a_child_that_is_not_ready_in_time_is_killed() -> None:
    process = child("import time; time.sleep(600)", ready_timeout=0.2)

    async def scene(recorder: Recorder) -> None:
        reason = (await recorder.until("down")).reason
        assert reason == "not ready within 0.2 s, killed by SIGKILL"

    run(process, scene)


def test_a_program_that_cannot_be_run_is_tried_again() -> None:
    process = SupervisedProcess(["/nowhere/at/all"], name="child", backoff=EAGER)

    async def scene(recorder: Recorder) -> None:
        assert "/nowhere/at/all" in (await recorder.until("down", times=3)).reason

    run(process, scene)


def test_every_line_is_handed_on_even_when_there_are_more_than_a_pipe_holds() -> None:
    lines: list[tuple[str, str]] = []
    code = (
        READY
        + "tell_ready()\n"
        + "for number in range(20_000): print('line', number)\n"
        + "sys.stderr.write('y' * 200_000 + '\\nlast'); sys.stderr.flush()\n"
        + "sys.stdout.flush(); threading.Event().wait(0); sys.exit(0)\n"
    )
    process = child(code, on_line=lambda stream, line: lines.append((stream, line)))

    async def scene(recorder: Recorder) -> None:
        await recorder.until("down")
        out = [line for stream, line in lines if stream == "stdout"]
        assert out[:20_000] == [f"line {number}" for number in range(20_000)]
        errors = "".join(line for stream, line in lines if stream == "stderr")
        assert errors.startswith("y" * 200_000 + "last")

    run(process, scene)


def test_stop_lets_the_child_end_its_work(tmp_path: Path) -> None:
    mark = tmp_path / "ended"
    code = (
        READY
        + "ended = threading.Event()\n"
        + "signal.signal(signal.SIGTERM, lambda *_: ended.set())\n"
        + f"tell_ready(); ended.wait(); open({str(mark)!r}, 'w').close()\n"
    )
    process = child(code)

    async def scene(recorder: Recorder) -> None:
        await recorder.until("up")

    run(process, scene)
    assert mark.exists()


def test_stop_kills_a_child_that_does_not_want_to_end_and_the_children_of_it() -> None:
    code = (
        READY
        + "import subprocess\n"
        + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        + "below = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        + "tell_ready(below=below.pid)\nwhile True: threading.Event().wait(600)\n"
    )

    async def play() -> None:
        process = child(code)
        recorder = Recorder(process)
        await process.start()
        below = (await recorder.until("up")).ready["below"]
        pid = process.pid
        assert pid is not None
        await process.stop(grace=0.05)
        assert has_ended(pid)
        assert has_ended(below)

    asyncio.run(play())


def test_stop_ends_a_child_that_is_still_starting() -> None:
    async def play() -> None:
        process = child("import time; time.sleep(600)")
        await process.start()
        await process.stop(grace=5)
        assert process.state == "stopped"
        await process.stop()

    asyncio.run(play())


def test_a_child_ends_with_a_parent_that_was_killed() -> None:
    parent = (
        "import asyncio, sys\n"
        "from sluicegate.supervision import SupervisedProcess\n"
        "async def main():\n"
        f"    process = SupervisedProcess([sys.executable, '-c', {WELL!r}], name='child')\n"
        "    process.listen(lambda change: change.state == 'up' and print(process.pid, flush=True))\n"
        "    await process.start()\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        pid = int(running.stdout.readline())
        running.kill()
    assert has_ended(pid)


def test_a_child_lives_in_a_session_of_its_own_so_that_ctrl_c_passes_it_by() -> None:
    process = child(WELL)

    async def scene(recorder: Recorder) -> None:
        await recorder.until("up")
        assert process.pid is not None
        assert os.getsid(process.pid) == process.pid != os.getsid(0)

    run(process, scene)


def test_a_process_started_by_hand_takes_the_end_of_its_stdin_for_nothing() -> None:
    code = READY + "print(exit_with_parent(lambda: os._exit(9)))"
    done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert done.stdout == b"False\n"


def test_a_child_that_was_up_for_long_is_started_again_without_delay() -> None:
    clock = StillClock()
    patient = Backoff(first=3_600, most=3_600, forgive_after=60)
    process = SupervisedProcess([sys.executable, "-c", WELL], name="child", backoff=patient, clock=clock)

    async def scene(recorder: Recorder) -> None:
        for times in (1, 2, 3):
            await recorder.until("up", times)
            clock.seconds += 61
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
        await recorder.until("up", 4)

    run(process, scene)


def test_a_listener_or_hook_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def hook(pid: int, returncode: int) -> None:
        raise RuntimeError("hook")

    def listener(change: Change) -> None:
        raise RuntimeError("listener")

    process = child("pass", on_exit=hook)
    process.listen(listener)

    async def scene(recorder: Recorder) -> None:
        await recorder.until("down", times=2)

    run(process, scene)
    assert "hook" in caplog.text
    assert "listener" in caplog.text


def test_the_back_off_starts_at_nothing_doubles_and_stays_under_its_cap() -> None:
    backoff = Backoff(first=1.0, most=10.0)
    assert [backoff.delay(deaths, 1.0) for deaths in range(1, 8)] == [0, 1, 2, 4, 8, 10, 10]
    assert backoff.delay(3, 0.0) == 1.0
    assert backoff.delay(10**6, 1.0) == 10.0


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_child_inherits_the_descriptors_that_it_is_given_at_each_start_and_no_others(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    read, write = os.pipe()
    kept_back = os.dup(write)
    code = READY + (
        "at, other = int(os.environ['AT']), int(os.environ['OTHER'])\n"
        "try: os.fstat(other)\n"
        "except OSError: os.write(at, b'x')\n"
    )

    async def play() -> None:
        process = child(
            code + "tell_ready()\nsys.exit(1)\n",
            environment=lambda: {**os.environ, "AT": str(write), "OTHER": str(kept_back)},
            descriptors=lambda: [write],
        )
        recorder = Recorder(process)
        await process.start()
        await recorder.until("down", times=2)
        await process.stop(grace=5)

    try:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(play())
        assert os.read(read, 2) == b"xx"
    finally:
        for descriptor in (read, write, kept_back):
            os.close(descriptor)
