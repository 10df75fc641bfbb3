"""Several gateway processes on one port, and the process that keeps them: it serves nothing, so little can fail it.

                    supervisor ──keeps──▶ plant          picture workers, caretaker, built-in chat models: once
                        └───────keeps──▶ gateway 1 … N   each accepts from a listening socket of its own

start   sockets ▸ plant: up once the store is open and migrated ▸ gateways ▸ ready once all of them serve
stop    all drain side by side ▸ a gateway that has ended takes its socket with it, so that callers get to those that
        still answer ▸ the plant ends after the last gateway: their answers need its models

The sockets belong to the supervisor: what had connected to a gateway that died waits in its socket's queue for the next
one. When that does not start, its socket is closed, and the others get its callers until it does. When the supervisor
dies, end of file on its pipes tells the others, who drain by themselves.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from sluicegate.app.ledger import Ledger, allot
from sluicegate.app.listeners import base_url, listen, one_more, tls_context
from sluicegate.app.messages import PlantTold, Whereabouts
from sluicegate.app.place import Place, ledger_columns
from sluicegate.app.switchboard import Switchboard
from sluicegate.errors import StoreUnavailable, Unavailable
from sluicegate.observability.health import ProcessHealth
from sluicegate.observability.logs import Log
from sluicegate.observability.process import ProcessFigures
from sluicegate.observability.tallies import MetricsDump
from sluicegate.settings import Settings
from sluicegate.supervision import Backoff, Change, StreamName, SupervisedProcess

_BACKOFF = Backoff(first=0.25, most=2.0)
"""Callers wait in a dead gateway's socket meanwhile: never for long."""
_STOP_MARGIN_SECONDS = 3.0
"""How much longer than ``server.drain_seconds`` a child may take before it is killed."""
_log = Log("sluicegate.supervisor")


class Supervisor:
    """Runs `count` gateways, at least two, and their plant."""

    def __init__(self, settings: Settings, count: int) -> None:
        self._settings = settings
        self._count = count
        self._children: list[_Child] = []
        self._figures = ProcessFigures()
        self.switchboard = Switchboard(lambda: MetricsDump.of(self._figures.families()), self._health)

    async def run(self, on_ready: Callable[[str], None] | None) -> None:
        """Serve until SIGTERM or SIGINT, then drain.

        Raises `OSError` when the address cannot be listened on, `Unavailable` when a process does not start.
        """
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        is_secure = tls_context(self._settings.server.tls) is not None
        listeners = listen(self._settings.server, self._count)
        url = base_url(listeners[0], is_secure=is_secure)
        async with contextlib.AsyncExitStack() as stack:
            for listener in listeners:
                stack.callback(listener.close)
            shared = _Shared(self._settings, self._count)
            stack.callback(shared.close)
            stack.push_async_callback(self.switchboard.close)
            plant = _Child(self, shared, 0)
            gateways = [_Child(self, shared, at, listener) for at, listener in enumerate(listeners, start=1)]
            self._children = [*gateways, plant]
            try:
                if await self._start(plant, gateways, stopping):
                    _log.info("gateways ready", url=url, processes=self._count)
                    if on_ready is not None:
                        on_ready(url)
                    await stopping.wait()
                _log.info("draining", seconds=self._settings.server.drain_seconds)
            finally:
                shared.release_lifeline()
                await asyncio.gather(*(child.stop() for child in self._children))
        _log.info("supervisor stopped")

    def plant_died(self, reason: str) -> None:
        """Its models have ended with it."""
        change = Change(state="starting", reason=f"the process that runs it is started again ({reason})")
        models = (Whereabouts(model.backend, change) for model in self.switchboard.plant.models)
        self.switchboard.tell_all(PlantTold(tuple(models)))

    async def _start(self, plant: "_Child", gateways: "list[_Child]", stopping: asyncio.Event) -> bool:
        """Whether all are up; False when told to stop first."""
        for group in ([plant], gateways):
            for child in group:
                await child.process.start()
            told = asyncio.create_task(stopping.wait())
            started = asyncio.gather(*(child.first_start for child in group))
            first: set[asyncio.Future[Any]] = {told, started}
            try:
                await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
                if not started.done():
                    started.cancel()
                    return False
                await started
            finally:
                told.cancel()
        return True

    def _health(self) -> tuple[ProcessHealth, ...]:
        return tuple(child.health() for child in self._children)


class _Shared:
    """What all children are joined by."""

    def __init__(self, settings: Settings, count: int) -> None:
        self.settings = settings
        self.count = count
        columns = ledger_columns(settings)
        self.ledger_descriptor = allot(columns, count)
        self.ledger = Ledger(self.ledger_descriptor, columns, count)
        self.lifeline_read, self.lifeline_write = os.pipe()
        self.log = os.dup(sys.stderr.fileno())

    def release_lifeline(self) -> None:
        """From now on only the gateways keep the plant alive."""
        if self.lifeline_write >= 0:
            os.close(self.lifeline_write)
            self.lifeline_write = -1

    def close(self) -> None:
        """Let go of everything."""
        self.release_lifeline()
        for descriptor in (self.lifeline_read, self.ledger_descriptor, self.log):
            os.close(descriptor)


class _Child:
    """The plant (number 0) or a gateway, over all its runs."""

    def __init__(
        self, supervisor: Supervisor, shared: _Shared, number: int, listener: socket.socket | None = None
    ) -> None:
        self.number = number
        self.first_start: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the first run is ready; fails when that ends before."""
        self._supervisor = supervisor
        self._shared = shared
        self._listener = listener
        self._theirs: socket.socket | None = None
        self._is_up = False
        self._place = self._new_place()
        self._joining: asyncio.Task[None] | None = None
        module = "gateway_process" if number else "plant_process"
        self.process = SupervisedProcess(
            [sys.executable, "-m", f"sluicegate.app.{module}"],
            name=self._place.name,
            backoff=_BACKOFF,
            environment=self._prepare,
            descriptors=self._inherited,
            on_exit=self._ended,
            on_line=_pass_on,
        )
        self.process.listen(self._changed)

    def health(self) -> ProcessHealth:
        """How it is."""
        change = self.process.last_change
        return ProcessHealth(
            name=self.process.name,
            state=change.state,
            pid=self.process.pid,
            restarts=self.process.restarts,
            reason=change.reason,
        )

    async def stop(self) -> None:
        """Let it drain; what has connected to its socket and was not accepted is turned away."""
        await self.process.stop(self._shared.settings.server.drain_seconds + _STOP_MARGIN_SECONDS)
        if self._listener is not None:
            self._listener.close()
        self._close_theirs()
        if not self.first_start.cancel() and not self.first_start.cancelled():
            self.first_start.exception()  # looked at: it is told once

    def _new_place(self, line: int = -1) -> Place:
        shared = self._shared
        return Place(
            settings=shared.settings,
            number=self.number,
            gateways=shared.count,
            line=line,
            log=shared.log,
            lifeline=shared.lifeline_write if self.number else shared.lifeline_read,
            listener=self._listener.fileno() if self._listener else -1,
            ledger=shared.ledger_descriptor if self.number else -1,
        )

    def _prepare(self) -> dict[str, str]:
        """A new line for each run."""
        ours, self._theirs = socket.socketpair()
        self._place = self._new_place(self._theirs.fileno())
        self._joining = asyncio.create_task(self._supervisor.switchboard.join(self._place.name, ours))
        return dict(self._place.environment())

    def _inherited(self) -> tuple[int, ...]:
        return self._place.descriptors()

    def _changed(self, change: Change) -> None:
        match change.state:
            case "up":
                self._is_up = True
                self._close_theirs()
                if not self.first_start.done():
                    self.first_start.set_result(None)
            case "down":
                self._close_theirs()
                if not self.first_start.done():
                    self.first_start.set_exception(_start_failure(self._place.name, change.reason))
                if not self._is_up:
                    self._turn_callers_away()
                self._is_up = False
                if not self.number:
                    self._supervisor.plant_died(change.reason)
            case "starting" | "stopped":
                pass

    async def _ended(self, pid: int, returncode: int) -> None:
        if self.number:
            self._shared.ledger.clear(self.number - 1)
        if self._joining is not None:
            await self._joining
        await self._supervisor.switchboard.leave(self._place.name)

    def _turn_callers_away(self) -> None:
        """The next run gets a socket that nobody can connect to before it serves."""
        if self._listener is not None:
            before, self._listener = self._listener, one_more(self._listener)
            before.close()

    def _close_theirs(self) -> None:
        """The child has its end by now: left open here too, its death would not be seen."""
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None


def _start_failure(name: str, reason: str) -> Unavailable:
    kind = StoreUnavailable if name == "plant" else Unavailable
    return kind(f"{name} did not start: {reason}")


def _pass_on(stream: StreamName, line: str) -> None:
    """Children write their log by themselves; what comes here are tracebacks and the words of libraries."""
    sys.stderr.write(line + "\n")
