"""Looking after a server: asked again and again how it is."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from sluicegate.backends.backend import Health
from sluicegate.errors import BackendUnavailable

_log = logging.getLogger(__name__)


class Watch:
    """Calls `probe` at once and then every `up_seconds`, or every `down_seconds` while the server is down."""

    def __init__(
        self, name: str, probe: Callable[[], Awaitable[Health]], *, up_seconds: float, down_seconds: float
    ) -> None:
        self.health = Health(state="starting", reason="not asked yet")
        self._name = name
        self._probe = probe
        self._up_seconds = up_seconds
        self._down_seconds = down_seconds
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; when it has begun already, nothing happens."""
        if self._task is None:
            self._become(Health(state="starting", reason="not asked yet"))
            self._wake.clear()
            self._task = asyncio.create_task(self._probe_forever(), name=f"probe {self._name}")

    async def stop(self) -> None:
        """End a probe under way; the server counts as down from then on."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        self.health = Health(state="down", reason="stopped")

    def doubt(self, error: BackendUnavailable) -> None:
        """A call failed. Without a connection the server counts as down at once; in any case it is asked now."""
        if self.health.state == "up":
            # A connection that was made and then lost may be this one request's fault: look before judging.
            if not error.details.get("connected"):
                self._become(Health(state="down", reason=error.message))
            self._wake.set()

    async def _probe_forever(self) -> None:
        while True:
            try:
                health = await self._probe()
            except Exception as error:  # our own fault; without an end of it nobody would look any more
                _log.exception("backend %s could not be asked", self._name)
                health = Health(state="down", reason=f"{self._name}: it could not be asked ({type(error).__name__})")
            self._become(health)
            pause = self._up_seconds if self.health.state == "up" else self._down_seconds
            # Not wait_for: on Python 3.11 it swallows a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
                    self._wake.clear()

    def _become(self, health: Health) -> None:
        if health.state != self.health.state:
            level = logging.WARNING if health.state == "down" else logging.INFO
            reason = f": {health.reason}" if health.reason else ""
            _log.log(level, "backend %s is %s%s", self._name, health.state, reason)
        self.health = health
