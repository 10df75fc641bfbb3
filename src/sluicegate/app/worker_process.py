"""One supervised worker process."""

import sys
from collections.abc import Awaitable, Callable

from sluicegate.app.worker import environment
from sluicegate.domain.ids import WorkerId, new_worker_id
from sluicegate.settings import Settings
from sluicegate.supervision import StreamName, SupervisedProcess


class WorkerProcess:
    """Each start has an id of its own, which `on_death` hears, so that a dead one's leases are known."""

    def __init__(self, settings: Settings, on_death: Callable[[WorkerId], Awaitable[None]]) -> None:
        self._settings = settings
        self._on_death = on_death
        self._id = new_worker_id()
        self.process = SupervisedProcess(
            [sys.executable, "-m", "sluicegate.app.worker"],
            name="worker",
            environment=self._environment,
            on_exit=self._exited,
            on_line=self._pass_on,
        )

    def _environment(self) -> dict[str, str]:
        self._id = new_worker_id()
        return dict(environment(self._settings, self._id))

    async def _exited(self, pid: int, returncode: int) -> None:
        await self._on_death(self._id)

    def _pass_on(self, stream: StreamName, line: str) -> None:
        """A worker writes finished log lines; they go where ours go."""
        sys.stderr.write(line + "\n")
