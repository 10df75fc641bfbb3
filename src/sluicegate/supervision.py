"""Child processes that are kept running, and that never outlive their parent.

    start ─▶ starting ──ready line──▶ up ──dies──▶ down ──back-off──▶ starting …        stop ─▶ stopped

A child says that it is ready with one JSON line on its stdout (`tell_ready`); every other line is handed on.
It holds the read end of a pipe as its stdin: end of file there means that the parent is gone, however it died
(`exit_with_parent`). It runs in a session of its own, so that Ctrl-C on a terminal reaches the parent alone.
"""

import asyncio
import contextlib
import json
import logging
import os
import random
import signal
import stat
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec

from sluicegate.domain.clock import Clock, SystemClock

ProcessState = Literal["stopped", "starting", "up", "down"]
StreamName = Literal["stdout", "stderr"]

_SUPERVISED = "SLUICEGATE_SUPERVISED"
_LONGEST_LINE = 65_536
_TAIL_LINES = 5
_DRAIN_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A child's new state: why it is down, or the fields of its ready line when it is up."""

    state: ProcessState
    reason: str = ""
    ready: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next start, in seconds: nothing after a first death, then doubling."""

    first: float = 0.5
    most: float = 30.0
    forgive_after: float = 60.0
    """A child that was up for so long counts as sound: its next death is again a first one."""

    def delay(self, deaths: int, chance: float) -> float:
        """Seconds to wait after so many deaths in a row; `chance` (0-1) spreads them over the upper half."""
        if deaths <= 1:
            return 0.0
        full = min(self.most, self.first * 2.0 ** min(deaths - 2, 32))
        return full * (0.5 + chance / 2)


class SupervisedProcess:
    """One child process, restarted whenever it dies.

    `on_exit(pid, returncode)` is awaited after each death and before the next start; `on_line(stream, line)` gets
    what the child writes. `environment()` is asked before each start for the child's whole environment; None passes
    on the parent's. `descriptors()` is asked after it, for the file descriptors that the child inherits.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        name: str,
        environment: Callable[[], Mapping[str, str]] | None = None,
        ready_timeout: float = 30.0,
        backoff: Backoff | None = None,
        on_exit: Callable[[int, int], Awaitable[None]] | None = None,
        on_line: Callable[[StreamName, str], None] | None = None,
        descriptors: Callable[[], Sequence[int]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self._argv = tuple(argv)
        self._environment = environment
        self._descriptors = descriptors
        self._ready_timeout = ready_timeout
        self._backoff = backoff or Backoff()
        self._on_exit = on_exit
        self._on_line = on_line or self._log_line
        self._clock = clock or SystemClock()
        self._listeners: list[Callable[[Change], None]] = []
        self._change = Change(state="stopped")
        self._restarts = 0
        self._child: _Child | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    @property
    def state(self) -> ProcessState:
        """stopped, starting, up or down."""
        return self._change.state

    @property
    def last_change(self) -> Change:
        """The latest change of state, with its reason or ready line."""
        return self._change

    @property
    def pid(self) -> int | None:
        """The child's process id, or None while there is none."""
        return self._child.pid if self._child else None

    @property
    def restarts(self) -> int:
        """How many times the child was started again."""
        return self._restarts

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Have every change of state told to `listener`, on the event loop."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Begin to keep the child running; returns at once."""
        if self._task is None:
            self._stopping.clear()
            self._become(Change(state="starting"))
            self._task = asyncio.create_task(self._supervise(), name=f"supervise {self.name}")

    async def stop(self, grace: float = 10.0) -> None:
        """Send SIGTERM; after `grace` seconds, or when cancelled, SIGKILL to the child and its own children."""
        task = self._task
        if task is None:
            return
        self._stopping.set()
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait({task}, timeout=grace)
        finally:
            if not task.done():
                self._signal(signal.SIGKILL)
        await asyncio.wait({task}, timeout=_DRAIN_SECONDS * 5)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        self._task = None
        self._become(Change(state="stopped"))

    def kill(self) -> None:
        """SIGKILL a child that lives but no longer works; it is started again as after any death."""
        self._signal(signal.SIGKILL)

    async def _supervise(self) -> None:
        deaths = 0
        while not self._stopping.is_set():
            up_for, reason = await self._run_once()
            if self._stopping.is_set():
                return
            deaths = 1 if up_for >= self._backoff.forgive_after else deaths + 1
            delay = self._backoff.delay(deaths, random.random())
            _log.warning("%s is down: %s; started again in %.1f s", self.name, reason, delay)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
            if not self._stopping.is_set():
                self._restarts += 1
                self._become(Change(state="starting", reason=reason))

    async def _run_once(self) -> tuple[float, str]:
        """Run the child to its end; for how many seconds it was up, and why it ended."""
        child = _Child(self._on_line)
        environment = {**(self._environment() if self._environment else os.environ), _SUPERVISED: "1"}
        inherited = tuple(self._descriptors()) if self._descriptors else ()
        loop = asyncio.get_running_loop()
        try:
            await loop.subprocess_exec(
                lambda: child, *self._argv, env=environment, start_new_session=True, pass_fds=inherited
            )
        except (OSError, ValueError) as error:
            reason = f"cannot run {self._argv[0]}: {error}"
            self._become(Change(state="down", reason=reason))
            return 0.0, reason
        self._child = child
        try:
            if self._stopping.is_set():
                child.send(signal.SIGTERM)
            up_for, reason = await self._watch(child)
        finally:
            self._child = None
            child.dispose()
        self._become(Change(state="down", reason=reason))
        await self._tell_exit(child.pid, child.exited.result())
        return up_for, reason

    async def _watch(self, child: "_Child") -> tuple[float, str]:
        late = ""
        first: set[asyncio.Future[Any]] = {child.ready, child.exited}
        await asyncio.wait(first, timeout=self._ready_timeout, return_when=asyncio.FIRST_COMPLETED)
        began = self._clock.monotonic()
        if child.ready.done():
            if not child.exited.done() and not self._stopping.is_set():
                self._become(Change(state="up", ready=child.ready.result()))
        elif not child.exited.done():
            late = f"not ready within {self._ready_timeout:g} s, "
            child.send(signal.SIGKILL)
        await asyncio.wait({child.exited})
        up_for = self._clock.monotonic() - began if child.ready.done() else 0.0
        # A grandchild may hold the pipes open: the last words are awaited, but not for ever.
        await asyncio.wait({child.drained}, timeout=_DRAIN_SECONDS)
        return up_for, late + child.last_words()

    async def _tell_exit(self, pid: int, returncode: int) -> None:
        if self._on_exit is None:
            return
        try:
            await self._on_exit(pid, returncode)
        except Exception:
            _log.exception("%s: the hook for the end of process %d failed", self.name, pid)

    def _become(self, change: Change) -> None:
        self._change = change
        for listener in self._listeners:
            try:
                listener(change)
            except Exception:
                _log.exception("%s: a listener failed at %s", self.name, change.state)

    def _signal(self, number: signal.Signals) -> None:
        if self._child:
            self._child.send(number)

    def _log_line(self, stream: StreamName, line: str) -> None:
        _log.info("%s %s: %s", self.name, stream, line)


class _Child(asyncio.SubprocessProtocol):
    """One run of the child: its pipes, its ready line and its end."""

    def __init__(self, on_line: Callable[[StreamName, str], None]) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[Mapping[str, Any]] = loop.create_future()
        self.exited: asyncio.Future[int] = loop.create_future()
        self.drained: asyncio.Future[None] = loop.create_future()
        self.pid = 0
        self._on_line = on_line
        self._unfinished: dict[int, bytes] = {1: b"", 2: b""}
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self.pid = self._transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, rest = (self._unfinished[fd] + data).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            lines.append(rest)
            rest = b""
        self._unfinished[fd] = rest
        for line in lines:
            self._take(fd, line)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if rest := self._unfinished.pop(fd, b""):
            self._take(fd, rest)

    def process_exited(self) -> None:
        assert self._transport is not None
        code = self._transport.get_returncode()
        if not self.exited.done():
            self.exited.set_result(-1 if code is None else code)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.drained.done():
            self.drained.set_result(None)

    def send(self, number: signal.Signals) -> None:
        """Signal the child, or with SIGKILL its whole session; nothing when it has ended."""
        if self.exited.done():
            return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)

    def dispose(self) -> None:
        """Kill what still runs and close the pipes."""
        self.send(signal.SIGKILL)
        if self._transport:
            self._transport.close()

    def last_words(self) -> str:
        """How the child ended and the last lines of its stderr."""
        code = self.exited.result()
        try:
            end = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        except ValueError:
            end = f"killed by signal {-code}"
        return f"{end}: {' | '.join(self._tail)}" if self._tail else end

    def _take(self, fd: int, raw: bytes) -> None:
        line = raw.decode("utf-8", "replace").rstrip("\r")
        if fd == 2 and line.strip():
            self._tail.append(line[:500])
        if fd == 1 and not self.ready.done() and (fields := _ready_fields(line)) is not None:
            self.ready.set_result(fields)
            return
        try:
            self._on_line("stdout" if fd == 1 else "stderr", line)
        except Exception:
            _log.exception("the reader of a child's output failed")


def _ready_fields(line: str) -> Mapping[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and fields.pop("ready", None) is True else None


def tell_ready(**fields: Any) -> None:
    """For children: tell the parent, by one line on stdout, that this process is ready; `fields` go with it."""
    sys.stdout.write(json.dumps({"ready": True, **fields}) + "\n")
    sys.stdout.flush()


def exit_with_parent(react: Callable[[], None]) -> bool:
    """For children: call `react` once, from a thread of its own, when the parent has gone.

    An event loop passes ``lambda: loop.call_soon_threadsafe(stop)``. False, and nothing happens, when this process
    was started by hand rather than by a `SupervisedProcess`: a terminal's or a service's stdin means nothing.
    """
    if not os.environ.pop(_SUPERVISED, "") or not _is_pipe(0):
        return False

    def wait_for_end() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        react()

    threading.Thread(target=wait_for_end, name="exit-with-parent", daemon=True).start()
    return True


def _is_pipe(fd: int) -> bool:
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
