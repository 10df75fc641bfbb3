"""Kind "openai": any server that speaks OpenAI's dialect, at its base address (``http://gpu1:8000/v1``)."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from sluicegate.backends.backend import Health, UpstreamAnswer
from sluicegate.backends.upstream import UpstreamClient
from sluicegate.domain.generation import ModelCard
from sluicegate.errors import BackendError, BackendUnavailable
from sluicegate.settings import BackendSettings

_PROBE_TIMEOUT = 5.0
_STOP_SECONDS = 1.0

_log = logging.getLogger(__name__)


class _Listed(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_Listed]


class OpenAIBackend:
    """Relays calls to one server and asks it every `probe_seconds` (`down_probe_seconds` while down) for its models.

    A call that finds nothing to connect to also marks it down at once. `environment` holds the key's variable.
    """

    kind = "openai"

    def __init__(
        self,
        settings: BackendSettings,
        *,
        environment: Mapping[str, str] | None = None,
        probe_seconds: float = 10.0,
        down_probe_seconds: float = 1.0,
    ) -> None:
        self.name = settings.name
        self.max_concurrency = settings.max_concurrency
        self._settings = settings
        self._environment = os.environ if environment is None else environment
        self._probe_seconds = probe_seconds
        self._down_probe_seconds = down_probe_seconds
        self._cards = chat_cards(settings.name, settings.models)
        self._health = Health(state="starting", reason="not asked yet")
        self._client: UpstreamClient | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stopping = False

    def cards(self) -> Sequence[ModelCard]:
        """The models named in the settings, or else those that the server last listed."""
        return self._cards

    def health(self) -> Health:
        """As of the last probe or failed call."""
        return self._health

    async def start(self) -> None:
        """Begin to probe."""
        if self._task is not None:
            return
        variable = self._settings.api_key_env
        self._client = UpstreamClient(
            self._settings.url,
            name=self.name,
            key=self._environment.get(variable, "").strip() if variable else "",
            max_connections=self.max_concurrency,
            timeouts=self._settings.timeout_seconds,
        )
        self._become(Health(state="starting", reason="not asked yet"))
        self._stopping = False
        self._wake.clear()
        self._task = asyncio.create_task(self._probe_forever(self._client), name=f"probe {self.name}")

    async def stop(self) -> None:
        """End the probing and close the connections; answers still open break off."""
        task, self._task = self._task, None
        if task is not None:
            self._stopping = True
            self._wake.set()
            # A probe under way is let finish: cancelled while it connects, the library may leave its socket open.
            await asyncio.wait({task}, timeout=_STOP_SECONDS)
            task.cancel()
            await asyncio.wait({task})
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        self._health = Health(state="down", reason="stopped")

    async def call(self, path: str, body: bytes, *, request_id: str) -> UpstreamAnswer:
        """See `ChatBackend.call`."""
        if self._client is None:
            raise BackendUnavailable(f"{self.name}: not started")
        try:
            return await post_json(self._client, path, body, request_id)
        except BackendUnavailable as error:
            if self._health.state == "up":
                # A connection that was made and then lost may be this one request's fault: look before judging.
                if not error.details.get("connected"):
                    self._become(Health(state="down", reason=error.message))
                self._wake.set()
            raise

    async def _probe_forever(self, client: UpstreamClient) -> None:
        while not self._stopping:
            self._become(await self._probe(client))
            pause = self._probe_seconds if self._health.state == "up" else self._down_probe_seconds
            # Not wait_for: on Python 3.11 it swallows a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
                    self._wake.clear()

    async def _probe(self, client: UpstreamClient) -> Health:
        try:
            status, body = await client.get("models", timeout=_PROBE_TIMEOUT)
        except BackendError as error:
            return Health(state="down", reason=error.message)
        reason = self._fault(status) or self._learn(body, status)
        return Health(state="down", reason=f"{self.name}: {reason}") if reason else Health(state="up")

    def _fault(self, status: int) -> str:
        if status in (401, 403):
            variable = self._settings.api_key_env
            mend = f"check the key in {variable}" if variable else "name the variable of its key in api_key_env"
            return f"GET models is refused with {status}; {mend}"
        if status >= 500 or (status != 200 and not self._settings.models):
            return f"GET models is answered with {status}; is url the base address, up to /v1?"
        return ""

    def _learn(self, body: bytes, status: int) -> str:
        """Take over the listed models, unless the settings name them; what is wrong with the list."""
        if self._settings.models or status != 200:
            return ""
        try:
            listed = msgspec.json.decode(body, type=_ModelList).data
        except msgspec.DecodeError as error:
            return f"GET models is answered with something else than a model list ({error}); name them in models"
        self._cards = chat_cards(self.name, (model.id for model in listed))
        return "" if self._cards else "it lists no models"

    def _become(self, health: Health) -> None:
        if health.state != self._health.state:
            level = logging.WARNING if health.state == "down" else logging.INFO
            _log.log(
                level, "backend %s is %s%s", self.name, health.state, f": {health.reason}" if health.reason else ""
            )
        self._health = health


async def post_json(client: UpstreamClient, path: str, body: bytes, request_id: str) -> UpstreamAnswer:
    """POST a JSON body, with the id under which this request is known here."""
    return await client.post(path, body, {"content-type": "application/json", "x-request-id": request_id})


def chat_cards(backend: str, models: Iterable[str]) -> tuple[ModelCard, ...]:
    """A card for each model, in order, each id once."""
    return tuple(ModelCard(id=model, tasks=("chat",), backend=backend) for model in dict.fromkeys(models))
