"""One running job as seen from the thread that does it and from the event loop that waits for it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from sluicegate.backends.backend import Report
from sluicegate.domain.job import Progress


class Work:
    """Steps done of steps known, and the wish to stop.

    The working thread calls `plan`, `advance` and `check`; the event loop calls `pulse` and `stop`. Whatever `report`
    raises, in either of them, stops the work: it is raised there, and again by the thread's next `check`.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._interrupts: list[Callable[[], None]] = []
        self._progress = Progress(value=0.0)
        self.stopped_by: BaseException | None = None

    def plan(self, steps: int, message: str = "") -> None:
        """Say how many steps there are, before the first."""
        self._set(Progress(value=0.0, step=0, steps=steps, message=message))

    def advance(self, message: str = "") -> None:
        """One more step is done; `message` says what follows."""
        steps = self._progress.steps or 1
        step = min((self._progress.step or 0) + 1, steps)
        self._set(Progress(value=step / steps, step=step, steps=steps, message=message))

    def show(self, preview: str) -> None:
        """Report the latest progress with a preview (a data URL)."""
        with self._lock:
            self.check()
            latest = self._progress
            self._progress = msgspec.structs.replace(latest, preview=preview)
            self._call_report()
            self._progress = latest

    def check(self) -> None:
        """Raise what stopped the work, if anything has."""
        if self.stopped_by is not None:
            raise self.stopped_by

    def pulse(self) -> None:
        """Report the latest progress again, so that a long step is no silence and cancellation is noticed in it."""
        with self._lock:
            self.check()
            self._call_report()

    def stop(self, reason: BaseException) -> None:
        """Make the thread's next `check` raise `reason`, and interrupt what can be interrupted."""
        with self._lock:
            self._stop(reason)

    @contextmanager
    def interruptible(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Within the block, stopping the work calls `interrupt` from the stopping thread."""
        with self._lock:
            self.check()
            self._interrupts.append(interrupt)
        try:
            yield
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)

    def _set(self, progress: Progress) -> None:
        with self._lock:
            self.check()
            self._progress = progress
            self._call_report()

    def _call_report(self) -> None:
        try:
            self._report(self._progress)
        except BaseException as reason:
            self._stop(reason)
            raise

    def _stop(self, reason: BaseException) -> None:
        if self.stopped_by is None:
            self.stopped_by = reason
            for interrupt in self._interrupts:
                interrupt()
