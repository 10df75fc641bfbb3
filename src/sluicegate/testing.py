"""Test doubles that ship with the package, for its own tests and for those of whoever builds on it."""

from collections.abc import Awaitable, Callable, Sequence

from sluicegate.backends.backend import PictureRequest, PictureResult, Report
from sluicegate.domain.generation import ModelCard


class ManualClock:
    """A clock that stands still until a test moves it. Satisfies `sluicegate.domain.clock.Clock`."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass; raises `ValueError` for a negative span."""
        if seconds < 0:
            raise ValueError(f"time cannot pass backwards: {seconds}; use set_back for an adjusted clock")
        self._now += seconds
        self._monotonic += seconds

    def set_back(self, seconds: float) -> None:
        """Adjust the time of day as an administrator would; the monotonic time goes on as it was."""
        self._now -= seconds


Script = Callable[[PictureRequest, Report], Awaitable[PictureResult]]


class ScriptedPictures:
    """A picture backend whose work is a coroutine function of the test's own.

    It satisfies `sluicegate.backends.backend.PictureBackend`; `requests` keeps what it was asked.
    """

    name = "scripted"
    kind = "scripted"

    def __init__(self, script: Script, *, models: Sequence[str] = ("scripted",)) -> None:
        self.requests: list[PictureRequest] = []
        self._script = script
        self._cards = tuple(ModelCard(id=model, tasks=("stylize", "upscale"), backend=self.name) for model in models)

    def cards(self) -> Sequence[ModelCard]:
        """Its models; each does stylize and upscale."""
        return self._cards

    def loaded(self) -> Sequence[str]:
        """Nothing is ever loaded."""
        return ()

    async def run(self, request: PictureRequest, report: Report) -> PictureResult:
        """Play the script."""
        self.requests.append(request)
        return await self._script(request, report)

    async def close(self) -> None:
        """Nothing to free."""
