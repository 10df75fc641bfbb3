"""Kind "openai": any server that speaks OpenAI's dialect, at its base address (``http://gpu1:8000/v1``)."""

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from sluicegate.backends.backend import AnswerSink, ChatCall, Health, UpstreamCall, WireDialect
from sluicegate.backends.upstream import UpstreamClient
from sluicegate.backends.watch import Watch
from sluicegate.domain.generation import ModelCard
from sluicegate.errors import BackendError, BackendUnavailable
from sluicegate.settings import BackendSettings
from sluicegate.wire.wheel import Wheel

PROBE_TIMEOUT: Final = 5.0
"""Seconds."""
OPENAI_ONLY: Final[frozenset[WireDialect]] = frozenset({"openai"})


class _Listed(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_Listed]


class OpenAIBackend:
    """Relays calls to one server and asks it every `probe_seconds` (`down_probe_seconds` while down) for its models.

    A call that finds nothing to connect to also marks it down at once. `environment` holds the key's variable. `also`
    is asked after each probe that went well, and has the last word.
    """

    kind = "openai"
    dialects = OPENAI_ONLY

    def __init__(
        self,
        settings: BackendSettings,
        *,
        wheel: Wheel | None = None,
        environment: Mapping[str, str] | None = None,
        probe_seconds: float = 10.0,
        down_probe_seconds: float = 1.0,
        also: Callable[[UpstreamClient], Awaitable[Health]] | None = None,
    ) -> None:
        self.name = settings.name
        self.max_concurrency = settings.max_concurrency
        self._settings = settings
        self._wheel = Wheel() if wheel is None else wheel
        self._environment = os.environ if environment is None else environment
        self._also = also
        self._cards = chat_cards(settings.name, settings.models)
        self._client: UpstreamClient | None = None
        self._watch = Watch(settings.name, self._probe, up_seconds=probe_seconds, down_seconds=down_probe_seconds)

    def cards(self) -> Sequence[ModelCard]:
        """The models named in the settings, or else those that the server last listed."""
        return self._cards

    def health(self) -> Health:
        """As of the last probe or failed call."""
        return self._watch.health

    async def start(self) -> None:
        """Begin to probe."""
        if self._client is not None:
            return
        variable = self._settings.api_key_env
        self._client = UpstreamClient(
            self._settings.url,
            name=self.name,
            key=self._environment.get(variable, "").strip() if variable else "",
            max_connections=self.max_concurrency,
            timeouts=self._settings.timeout_seconds,
            wheel=self._wheel,
            on_unavailable=self._watch.doubt,
        )
        self._watch.start()

    async def stop(self) -> None:
        """End the probing and close the connections; answers still open break off."""
        await self._watch.stop()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def send(self, call: ChatCall, sink: AnswerSink) -> UpstreamCall:
        """See `ChatBackend.send`."""
        if self._client is None:
            raise BackendUnavailable(f"{self.name}: not started")
        return self._client.send(call.path, call.body, request_id_line(call.request_id), sink)

    async def _probe(self) -> Health:
        client = self._client
        if client is None:
            return Health(state="down", reason="stopped")
        try:
            status, body = await client.get("models", timeout=PROBE_TIMEOUT)
            reason = self._fault(status) or self._learn(body, status)
            if not reason and self._also is not None:
                return await self._also(client)
        except BackendError as error:
            return Health(state="down", reason=error.message)
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
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return f"GET models is answered with something else than a model list ({error}); name them in models"
        self._cards = chat_cards(self.name, (model.id for model in listed))
        return "" if self._cards else "it lists no models"


def request_id_line(request_id: str) -> bytes:
    """The header that tells a server under which id the request is known here; nothing when it cannot say it."""
    if request_id.isascii() and request_id.isprintable():
        return b"x-request-id: %b\r\n" % request_id.encode()
    return b""


def chat_cards(backend: str, models: Iterable[str]) -> tuple[ModelCard, ...]:
    """A card for each model, in order, each id once."""
    return tuple(ModelCard(id=model, tasks=("chat",), backend=backend) for model in dict.fromkeys(models))
