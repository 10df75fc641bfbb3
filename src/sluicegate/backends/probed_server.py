"""A server that calls go to and that is asked, again and again, how it is."""

import os
from collections.abc import Awaitable, Callable, Mapping

from sluicegate.backends.backend import Health
from sluicegate.backends.upstream import UpstreamClient
from sluicegate.backends.watch import Watch
from sluicegate.errors import BackendError
from sluicegate.settings import BackendSettings
from sluicegate.wire.wheel import Wheel


class ProbedServer:
    """The client of one server and the watch over it, between `start` and `stop`.

    `ask` finds out how the server is; what it raises as `BackendError` means down. `environment` holds the key's
    variable. `spare` connections are for calls that `max_concurrency` does not count.
    """

    def __init__(
        self,
        settings: BackendSettings,
        ask: Callable[[UpstreamClient], Awaitable[Health]],
        *,
        wheel: Wheel | None,
        environment: Mapping[str, str] | None,
        probe_seconds: float,
        down_probe_seconds: float,
        spare: int = 0,
    ) -> None:
        self.client: UpstreamClient | None = None
        """None while stopped."""
        self._settings = settings
        self._ask = ask
        self._wheel = Wheel() if wheel is None else wheel
        self._environment = os.environ if environment is None else environment
        self._spare = spare
        self.watch = Watch(settings.name, self._probe, up_seconds=probe_seconds, down_seconds=down_probe_seconds)

    def start(self) -> None:
        """Begin to probe."""
        if self.client is not None:
            return
        variable = self._settings.api_key_env
        self.client = UpstreamClient(
            self._settings.url,
            name=self._settings.name,
            key=self._environment.get(variable, "").strip() if variable else "",
            max_connections=self._settings.max_concurrency + self._spare,
            timeouts=self._settings.timeout_seconds,
            wheel=self._wheel,
            on_unavailable=self.watch.doubt,
        )
        self.watch.start()

    async def stop(self) -> None:
        """End the probing and close the connections; answers still open break off."""
        await self.watch.stop()
        client, self.client = self.client, None
        if client is not None:
            await client.close()

    def refusal(self, path: str, status: int) -> str:
        """What is wrong when a probe of `path` is answered with this status, if the key is."""
        if status not in (401, 403):
            return ""
        variable = self._settings.api_key_env
        mend = f"check the key in {variable}" if variable else "name the variable of its key in api_key_env"
        return f"GET {path} is refused with {status}; {mend}"

    async def _probe(self) -> Health:
        if self.client is None:
            return Health(state="down", reason="stopped")
        try:
            return await self._ask(self.client)
        except BackendError as error:
            return Health(state="down", reason=error.message)
