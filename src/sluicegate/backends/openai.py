"""Kind "openai": any server that speaks OpenAI's dialect, at its base address (``http://gpu1:8000/v1``)."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from sluicegate.backends.backend import AnswerSink, ChatCall, Health, UpstreamCall, WireDialect
from sluicegate.backends.probed_server import ProbedServer
from sluicegate.backends.upstream import UpstreamClient
from sluicegate.domain.generation import ModelCard
from sluicegate.errors import BackendUnavailable
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
        self._also = also
        self._cards = chat_cards(settings.name, settings.models)
        self._server = ProbedServer(
            settings,
            self._ask,
            wheel=wheel,
            environment=environment,
            probe_seconds=probe_seconds,
            down_probe_seconds=down_probe_seconds,
        )

    def cards(self) -> Sequence[ModelCard]:
        """The models named in the settings, or else those that the server last listed."""
        return self._cards

    def health(self) -> Health:
        """As of the last probe or failed call."""
        return self._server.watch.health

    async def start(self) -> None:
        """Begin to probe."""
        self._server.start()

    async def stop(self) -> None:
        """End the probing and close the connections; answers still open break off."""
        await self._server.stop()

    def send(self, call: ChatCall, sink: AnswerSink) -> UpstreamCall:
        """See `ChatBackend.send`."""
        if self._server.client is None:
            raise BackendUnavailable(f"{self.name}: not started")
        return self._server.client.send(call.path, call.body, request_id_line(call.request_id), sink)

    async def _ask(self, client: UpstreamClient) -> Health:
        status, body = await client.get("models", timeout=PROBE_TIMEOUT)
        reason = self._server.refusal("models", status) or self._fault(status) or self._learn(body, status)
        if not reason and self._also is not None:
            return await self._also(client)
        return Health(state="down", reason=f"{self.name}: {reason}") if reason else Health(state="up")

    def _fault(self, status: int) -> str:
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
