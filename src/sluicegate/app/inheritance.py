"""How a process that a `Supervisor` started begins, runs and ends."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable

from sluicegate.app.place import Place, inherited_place
from sluicegate.errors import SluicegateError
from sluicegate.observability.logs import configure_logs
from sluicegate.supervision import exit_with_parent

_LAST_RESORT_SECONDS = 5.0


def run_inherited(serve: Callable[[Place], Awaitable[None]]) -> None:
    """Run `serve` until it ends. It stops at SIGTERM; the supervisor's death sends one, too.

    Log lines go straight to the supervisor's standard error, each with this process's number; an error that ends the
    process goes to its own, which the supervisor reads.
    """
    place = inherited_place()
    log = os.fdopen(place.log, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    configure_logs(place.settings.observability, log, mark={"process": place.number})
    exit_with_parent(lambda: _end_alone(place.settings.server.drain_seconds))

    async def run() -> None:
        await serve(place)

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(run())
    except SluicegateError as error:
        sys.exit(error.message)


def _end_alone(drain_seconds: float) -> None:
    """Nobody is left who would end this process if it did not by itself."""
    timer = threading.Timer(drain_seconds + _LAST_RESORT_SECONDS, os._exit, (1,))
    timer.daemon = True
    timer.start()
    os.kill(os.getpid(), signal.SIGTERM)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
