"""A worker process: composition, signals, and a bounded stop.

Run by a gateway as ``python -m sluicegate.app.worker``, which hands its settings over in the environment.
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Mapping

import msgspec

from sluicegate.app.parts import build_assets, build_blobs, build_signals, build_store, picture_backends
from sluicegate.app.pools import refuse_unknown_pools, with_models_for_former_pools
from sluicegate.domain.clock import SystemClock
from sluicegate.domain.ids import WorkerId, new_worker_id
from sluicegate.errors import BackendTimeout, SluicegateError
from sluicegate.observability.logs import configure_logs
from sluicegate.scheduling.executor import Executor
from sluicegate.scheduling.worker import Worker
from sluicegate.settings import Settings
from sluicegate.supervision import exit_with_parent, tell_ready

SETTINGS_VARIABLE = "SLUICEGATE_WORKER_SETTINGS"
ID_VARIABLE = "SLUICEGATE_WORKER_ID"
_LAST_RESORT_SECONDS = 1.0


def environment(settings: Settings, worker: WorkerId) -> Mapping[str, str]:
    """The environment for a worker process of these settings."""
    handed_over = {SETTINGS_VARIABLE: msgspec.json.encode(settings).decode(), ID_VARIABLE: worker}
    return {**os.environ, **handed_over}


async def run(settings: Settings) -> None:
    """Work until told to stop, then drain; the process ends within ``server.drain_seconds`` whatever the work does.

    Raises `BackendTimeout` when a model hung: only a new process is cured of it; started by hand, `InvalidSettings` for
    a pool that is not known.
    """
    if ID_VARIABLE not in os.environ:  # a gateway only warns: its workers must not die once an old pool is empty
        await refuse_unknown_pools(settings)
    worker_id = WorkerId(os.environ.get(ID_VARIABLE) or new_worker_id())
    clock = SystemClock()
    store, blobs, signals = build_store(settings), build_blobs(settings), build_signals(settings)
    backends = picture_backends(with_models_for_former_pools(settings))
    await store.open()
    await signals.open()
    executor = Executor(
        store,
        build_assets(settings, store, blobs),
        signals,
        {card.id: backend for backend in backends for card in backend.cards()},
        clock,
        timeout_seconds=settings.worker.job_timeout_seconds,
    )
    worker = Worker(
        worker_id=worker_id,
        store=store,
        open_store=lambda: build_store(settings),
        signals=signals,
        executor=executor,
        backends=backends,
        settings=settings.worker,
        clock=clock,
        pools=settings.worker_pools,
        on_hang=_end_at_once,
    )
    stop = _Stop(worker, settings.server.drain_seconds)
    if exit_with_parent(stop.from_thread):
        tell_ready(worker=worker_id)
    try:
        await worker.run()
    finally:
        _end_in_any_case(_LAST_RESORT_SECONDS * 2)
        for backend in backends:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_RESORT_SECONDS):
                    await backend.close()
        await signals.close()
        await store.close()
    if worker.gave_up:
        raise BackendTimeout("a model did not end in time; start this worker again (serve does so by itself)")


def _end_at_once() -> None:
    """End a process that hangs: only a new one is cured of it. `serve` starts one and returns the job at once."""
    os._exit(1)


def _end_in_any_case(seconds: float) -> None:
    """End the process after `seconds`: a thread in which a model hangs would keep it from its orderly end.

    What the thread held is safe: its job was given up, handed back, or its lease expires.
    """
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()


class _Stop:
    """Turns SIGTERM, SIGINT and the parent's death into one drain, and bounds it."""

    def __init__(self, worker: Worker, drain_seconds: float) -> None:
        self._worker = worker
        self._drain_seconds = drain_seconds
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.begin)

    def from_thread(self) -> None:
        """Begin the drain, from another thread."""
        self._loop.call_soon_threadsafe(self.begin)

    def begin(self) -> None:
        """Begin the drain; a second call changes nothing."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._worker.drain(self._drain_seconds))
            _end_in_any_case(self._drain_seconds)


def main() -> None:
    """Entry point of a worker process started by a gateway."""
    settings = msgspec.json.decode(os.environ.pop(SETTINGS_VARIABLE), type=Settings)
    configure_logs(settings.observability)
    try:
        if sys.platform == "win32":
            asyncio.run(run(settings))
        else:
            import uvloop

            uvloop.run(run(settings))
    except SluicegateError as error:
        sys.exit(f"worker: {error.message}")


if __name__ == "__main__":
    main()
