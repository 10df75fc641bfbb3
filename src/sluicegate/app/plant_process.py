"""The process of what runs once under several gateways: the plant, and the built-in chat models.

Run by a `Supervisor` as ``python -m sluicegate.app.plant_process``. At SIGTERM its workers drain; it ends when the last
gateway has, because their answers need its models.
"""

import asyncio
import contextlib
import signal

from sluicegate.app.inheritance import run_inherited
from sluicegate.app.line import Line
from sluicegate.app.messages import PlantTold, Whereabouts
from sluicegate.app.parts import build_blobs, build_signals, build_store
from sluicegate.app.place import Place
from sluicegate.app.plant import Plant
from sluicegate.domain.clock import SystemClock
from sluicegate.observability.process import ProcessFigures
from sluicegate.observability.tallies import MetricsDump
from sluicegate.supervision import tell_ready


async def _serve(place: Place) -> None:
    settings = place.settings
    figures = ProcessFigures()
    line = Line(place.line, own=lambda: MetricsDump.of(figures.families()))
    store, signals = build_store(settings), build_signals(settings)
    plant = Plant(settings, store, signals, build_blobs(settings), SystemClock())
    models = _Models(place, line, plant)
    stopping, last_gateway_ended = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_reader(place.lifeline, last_gateway_ended.set)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(loop.remove_reader, place.lifeline)
        await store.open()
        stack.push_async_callback(store.close)
        await signals.open()
        stack.push_async_callback(signals.close)
        for part in (line, plant, models):
            await part.start()
            stack.push_async_callback(part.stop)
        tell_ready()
        await stopping.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.server.drain_seconds):
                await plant.stop_workers()
                await last_gateway_ended.wait()


class _Models:
    """The built-in chat models; every change of theirs is told to the gateways."""

    def __init__(self, place: Place, line: Line, plant: Plant) -> None:
        from sluicegate.backends.local_llm_shared import SharedLocalLLM

        self._line = line
        self._plant = plant
        self._backends = [
            SharedLocalLLM(backend, callers=place.gateways, on_change=self._tell)
            for backend in place.settings.backends
            if backend.kind == "local-llm"
        ]

    async def start(self) -> None:
        """Start all, and tell how they and the workers stand from now on."""
        for worker in self._plant.workers:
            worker.process.listen(lambda _: self._tell())
        for backend in self._backends:
            await backend.start()
        self._tell()

    async def stop(self) -> None:
        """End all."""
        await asyncio.gather(*(backend.stop() for backend in self._backends))

    def _tell(self) -> None:
        models = (Whereabouts(backend.name, *backend.whereabouts) for backend in self._backends)
        self._line.tell(PlantTold(tuple(models), workers_start=self._plant.starts))


def main() -> None:
    """Work until SIGTERM, or the supervisor's death; then drain."""
    run_inherited(_serve)


if __name__ == "__main__":
    main()
