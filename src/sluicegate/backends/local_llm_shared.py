"""Kind "local-llm" under several gateway processes: one process runs the model, the gateways are told where it is."""

from collections.abc import Callable
from pathlib import Path

from sluicegate.backends.backend import Health
from sluicegate.backends.local_llm import LocalLLMBackend
from sluicegate.settings import BackendSettings
from sluicegate.supervision import Change
from sluicegate.wire.wheel import Wheel

_CONNECTIONS = "--connections"


class SharedLocalLLM(LocalLLMBackend):
    """Runs the model for `callers` gateways; `on_change` is called whenever `whereabouts` may have changed."""

    def __init__(self, settings: BackendSettings, *, callers: int, on_change: Callable[[], None]) -> None:
        super().__init__(settings)
        self._callers = callers
        self._on_change = on_change

    async def start(self) -> None:
        """See `LocalLLMBackend.start`."""
        await super().start()
        if self.process is not None:
            self.process.listen(lambda _: self._on_change())
        self._on_change()

    @property
    def whereabouts(self) -> tuple[Change, str]:
        """The child's last change of state, and its key; without a child, why there is none."""
        if self.process is None:
            return Change(state="down", reason=self.health().reason), ""
        return self.process.last_change, self._key

    def _command(self, model: Path) -> list[str]:
        """Idle connections hold a thread of the model's server each, and every gateway keeps some."""
        command = super()._command(model)
        at = command.index(_CONNECTIONS) + 1
        command[at] = str(int(command[at]) * self._callers)
        return command


class LocalLLMElsewhere(LocalLLMBackend):
    """Calls a model that another process runs; `follow` is told where it is."""

    def __init__(self, settings: BackendSettings, *, wheel: Wheel | None = None) -> None:
        super().__init__(settings, wheel=wheel)
        self._told: tuple[Change, str] | None = None

    async def start(self) -> None:
        """Wait to be told."""
        self._told = None
        self._health = Health(state="starting", reason="the process that runs the model has not told where it is")

    def follow(self, change: Change, key: str) -> None:
        """The model's state, its address and its key. Told again unchanged, its connections stay."""
        if self._told != (change, key):
            self._told = (change, key)
            self._key = key
            self._follow(change)
