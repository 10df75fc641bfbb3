"""A job's progress on stderr: a live bar on a terminal, one line for each change of state elsewhere."""

import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from sluicegate.cli.client import Json
from sluicegate.cli.terminal import console, is_terminal, printable, say

if TYPE_CHECKING:
    from rich.progress import Progress


class Display(AbstractContextManager["Display"], Protocol):
    """Shows a job while it is followed."""

    def show(self, job: Json) -> None:
        """Show the job as it is now."""
        ...


def display(*, quiet: bool = False) -> Display:
    """The display that suits stderr; `quiet` shows nothing."""
    if quiet:
        return _Silence()
    return _Bar() if is_terminal(sys.stderr) else _Lines()


def describe(job: Json) -> str:
    """A job's state in a few words: place in the queue, step, or the end."""
    status = str(job["status"])
    progress = job.get("progress") or {}
    if status == "queued" and job.get("queue_position"):
        return f"queued, place {job['queue_position']}"
    if status == "running" and progress.get("steps"):
        return f"step {progress.get('step') or 0}/{progress['steps']}"
    if status == "running" and progress.get("message"):
        return printable(str(progress["message"]))
    return status


def share(job: Json) -> float:
    """How much is done, 0-1."""
    if job["status"] == "succeeded":
        return 1.0
    return float((job.get("progress") or {}).get("value") or 0.0)


class _Silence(AbstractContextManager["Display"]):
    def __exit__(self, *_: object) -> None:
        return None

    def show(self, job: Json) -> None:
        pass


class _Lines(AbstractContextManager["Display"]):
    def __init__(self) -> None:
        self._last = ""

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, job: Json) -> None:
        if job["status"] != self._last:
            self._last = job["status"]
            say(f"{job['id']} {describe(job)}")


class _Bar(AbstractContextManager["Display"]):
    """Status, bar, percent, elapsed and remaining time; it leaves no trace when the job has ended."""

    def __init__(self) -> None:
        self._progress = _new_progress()
        self._task = self._progress.add_task("submitted", total=None)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, job: Json) -> None:
        from rich.markup import escape

        known = job["status"] == "running" or share(job) > 0
        text = escape(describe(job))
        self._progress.update(self._task, description=text, completed=share(job), total=1.0 if known else None)


def _new_progress() -> "Progress":
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
    )
