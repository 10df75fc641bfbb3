"""What holds a running job: the word to stop it with, its latest progress, and how long it has worked."""

import threading
from typing import Literal

import msgspec

from sluicegate.backends.backend import Report
from sluicegate.domain.clock import Clock
from sluicegate.domain.job import Claim, Lease, Preview, Progress
from sluicegate.errors import JobCanceled, LeaseLost

Word = Literal["cancel", "expire", "preempt", "lost", "silence", "drain", "timeout"]
"""Why work must stop. silence: its lease could not be renewed in time, and may expire; the others as in `Verdict`."""


class Reins:
    """Holds one running job: its lease, the word to stop it with, and its latest progress. Thread-safe."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self._lock = threading.Lock()
        self._word: Word | None = None
        self._latest: Progress | None = None
        self._previews: list[Preview] = []
        self._shown = 0
        self._ended = False

    @property
    def lease(self) -> Lease:
        """The lease under which the job runs."""
        return self.claim.lease

    @property
    def word(self) -> Word | None:
        """Why the work must stop, or None."""
        return self._word

    @property
    def ended(self) -> bool:
        """Whether the work is over, and only its record is to be written."""
        return self._ended

    def end(self) -> None:
        """The work is over, one way or another."""
        self._ended = True

    def pull(self, word: Word) -> None:
        """Tell the work to stop; the first word stands, but a lost lease overrides every other."""
        with self._lock:
            if self._word is None or word == "lost":
                self._word = word

    def report(self, progress: Progress) -> None:
        """Called by the work at every step, from any thread. Raises `JobCanceled` or `LeaseLost`."""
        with self._lock:
            if progress.preview is not None:
                step, steps = progress.step or 0, progress.steps or 0
                self._previews.append(Preview(index=self._shown, step=step, steps=steps, image=progress.preview))
                self._shown += 1
                progress = msgspec.structs.replace(progress, preview=None)
            self._latest = progress
        self.check()

    def take_previews(self) -> list[Preview]:
        """The previews that were not taken yet, in order."""
        with self._lock:
            taken, self._previews = self._previews, []
            return taken

    def check(self) -> None:
        """Raise when the work must stop."""
        match self._word:
            case None:
                return
            case "lost" | "silence":
                raise LeaseLost(f"job {self.lease.job} is no longer this worker's")
            case word:
                raise JobCanceled(f"job {self.lease.job} was told to stop ({word})")

    def take_progress(self) -> Progress | None:
        """The latest report that was not taken yet."""
        with self._lock:
            latest, self._latest = self._latest, None
            return latest


class Meter:
    """How long a job has kept its model at work, in seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_at: float | None = None
        self._worked_from: float | None = None
        self._stopped_at: float | None = None

    def start(self, *, loading: bool) -> None:
        """The model is called. When it must be loaded first, work counts from the first step that it reports."""
        self._started_at = self._clock.monotonic()
        if not loading:
            self._worked_from = self._started_at

    def stop(self) -> None:
        """The model is done, or was stopped."""
        self._stopped_at = self._clock.monotonic()

    def attached_to(self, report: Report) -> Report:
        """The report, with the meter looking on."""

        def metered(progress: Progress) -> None:
            if self._worked_from is None and progress.steps is not None:
                self._worked_from = self._clock.monotonic()
            report(progress)

        return metered

    @property
    def seconds(self) -> float:
        """From the call of the model to its end, loading included."""
        return self._since(self._started_at)

    @property
    def worked(self) -> float:
        """Seconds of work, as far as can be told when no result tells how long the model took to load."""
        return self._since(self._worked_from)

    def _since(self, moment: float | None) -> float:
        if moment is None or self._stopped_at is None:
            return 0.0
        return self._stopped_at - moment
