"""Kind "ollama": an Ollama server, at its root (``http://gpu1:11434``).

    a call in Ollama's dialect   ──▶ sent as it is                   ──▶ its answer as it is
    a call in OpenAI's           ──▶ said in Ollama's, then sent     ──▶ its answer, or its refusal, said in OpenAI's

Models are those of ``/api/tags``. What that does not tell of a model, ``/api/show`` does; it is asked once for each
digest. Source: docs/api.md of ollama/ollama.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from sluicegate.backends.answer import receive
from sluicegate.backends.backend import AnswerHead, AnswerSink, ChatCall, Health, UpstreamCall, WireDialect
from sluicegate.backends.between import Between
from sluicegate.backends.dialects.answers_to_openai import answer_to_openai
from sluicegate.backends.dialects.failures import refusal_to_openai
from sluicegate.backends.dialects.models import OllamaModel, listed_models, model_card, shown_model
from sluicegate.backends.dialects.to_ollama import (
    OllamaCall,
    chat_to_ollama,
    completion_to_ollama,
    embeddings_to_ollama,
)
from sluicegate.backends.dialects.translation import Translation
from sluicegate.backends.openai import PROBE_TIMEOUT, chat_cards, request_id_line
from sluicegate.backends.probed_server import ProbedServer
from sluicegate.backends.translating import TranslatingSink
from sluicegate.backends.upstream import UpstreamClient
from sluicegate.domain.clock import Clock, SystemClock
from sluicegate.domain.generation import ModelCard
from sluicegate.errors import BackendError, BackendFailed, BackendUnavailable, Fault, InvalidInput
from sluicegate.settings import BackendSettings
from sluicegate.wire.wheel import Wheel

BOTH: Final[frozenset[WireDialect]] = frozenset({"openai", "ollama"})
_TRANSLATED: Final[Mapping[str, Callable[[bytes], OllamaCall]]] = {
    "chat/completions": chat_to_ollama,
    "completions": completion_to_ollama,
    "embeddings": embeddings_to_ollama,
}
_MOST_SHOWN = 32
"""Models whose details are asked for after one probe; the next probe goes on."""
_SPARE_CONNECTIONS = 1

_log = logging.getLogger(__name__)


class _Tagged(msgspec.Struct):
    name: str = ""
    model: str = ""
    digest: str = ""


class _Tags(msgspec.Struct):
    models: list[_Tagged] | None = None


class OllamaBackend:
    """Relays calls to one server and asks it every `probe_seconds` (`down_probe_seconds` while down) for its models.

    A server without models is up. `environment` holds the key's variable, for a server behind a proxy that wants one;
    `clock` tells when translated answers were made.
    """

    kind = "ollama"
    dialects = BOTH

    def __init__(
        self,
        settings: BackendSettings,
        *,
        wheel: Wheel | None = None,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        probe_seconds: float = 10.0,
        down_probe_seconds: float = 1.0,
    ) -> None:
        self.name = settings.name
        self.max_concurrency = settings.max_concurrency
        self._settings = settings
        self._clock = SystemClock() if clock is None else clock
        self._models: Mapping[str, OllamaModel] = {}
        self._shown: dict[str, OllamaModel] = {}
        """By digest."""
        self._cards: tuple[ModelCard, ...] = chat_cards(settings.name, settings.models)
        self._server = ProbedServer(
            settings,
            self._ask,
            wheel=wheel,
            environment=environment,
            probe_seconds=probe_seconds,
            down_probe_seconds=down_probe_seconds,
            spare=_SPARE_CONNECTIONS,
        )

    def cards(self) -> Sequence[ModelCard]:
        """The models named in the settings, or else those that the server last listed."""
        return self._cards

    def models(self) -> Mapping[str, OllamaModel]:
        """What the server told of its models, by the name under which it lists them."""
        return self._models

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
        """See `ChatBackend.send`. A call to be translated is refused with `MalformedBody` when it is no JSON."""
        client = self._server.client
        if client is None:
            raise BackendUnavailable(f"{self.name}: not started")
        line = request_id_line(call.request_id)
        if call.dialect == "ollama":
            return client.send(call.path, call.body, line, sink)
        translate = _TRANSLATED.get(call.path)
        if translate is None:
            mend = f"an Ollama server has {', '.join(_TRANSLATED)}"
            raise InvalidInput.of(Fault("path", f'nothing of the kind of "{call.path[:80]}"', mend))
        said = translate(call.body)
        answer_id = f"{'cmpl' if said.kind == 'completion' else 'chatcmpl'}-{call.request_id}"
        translation = answer_to_openai(said, answer_id=answer_id, clock=self._clock)
        return _OpenAISink(sink, translation).follow(lambda inner: client.send(said.path, said.body, line, inner))

    async def _ask(self, client: UpstreamClient) -> Health:
        status, body = await client.get("api/tags", timeout=PROBE_TIMEOUT)
        reason = self._server.refusal("api/tags", status) or self._fault(status)
        if reason:
            return Health(state="down", reason=f"{self.name}: {reason}")
        await self._learn(client, body)
        return Health(state="up")

    def _fault(self, status: int) -> str:
        if status != 200:
            return f"GET api/tags is answered with {status}; is url the root of an Ollama server?"
        return ""

    async def _learn(self, client: UpstreamClient, tags: bytes) -> None:
        """Take over the listed models. Raises `BackendFailed` when `tags` is no list of models."""
        listed = listed_models(tags)
        digests = _digests(tags)
        self._shown = {digest: told for digest, told in self._shown.items() if digest in digests.values()}
        await self._ask_details(client, listed, digests)
        models = {model.id: self._shown.get(digests.get(model.id, ""), model) for model in listed}
        # One digest may have several names.
        self._models = {name: msgspec.structs.replace(model, id=name) for name, model in models.items()}
        if not self._settings.models:
            cards = tuple(model_card(model, self.name) for model in self._models.values())
            # The fleet knows by the sequence itself whether anything has changed.
            self._cards = self._cards if cards == self._cards else cards

    async def _ask_details(
        self, client: UpstreamClient, listed: Sequence[OllamaModel], digests: Mapping[str, str]
    ) -> None:
        """Look at models that the list tells too little of; what is not told now is asked for again later."""
        wanted = {digest: model for model in listed if (digest := digests.get(model.id)) and not model.capabilities}
        unknown = [(digest, model) for digest, model in wanted.items() if digest not in self._shown]
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                for digest, model in unknown[:_MOST_SHOWN]:
                    told = await self._show(client, model)
                    if told is not None:
                        self._shown[digest] = told
        except (TimeoutError, BackendError) as error:
            _log.debug("backend %s tells no details of its models: %s", self.name, error)

    async def _show(self, client: UpstreamClient, model: OllamaModel) -> OllamaModel | None:
        body = msgspec.json.encode({"model": model.id})
        answer = await receive(lambda sink: client.send("api/show", body, b"", sink))
        told = await answer.read()
        try:
            return shown_model(model, told) if answer.status == 200 else None
        except BackendFailed as error:
            _log.debug("backend %s shows %s badly: %s", self.name, model.id, error.message)
            return model


class _OpenAISink(TranslatingSink):
    """Hands on an Ollama server's answer in OpenAI's dialect, its refusals too."""

    __slots__ = ()

    def __init__(self, sink: AnswerSink, translation: Translation) -> None:
        super().__init__(sink, translation)

    def answer_begun(self, head: AnswerHead) -> None:
        """See `AnswerSink`."""
        if head.status == 200:
            super().answer_begun(head)
            return
        self._translation = refusal_to_openai(head.status)
        self._translates = True
        Between.answer_begun(self, AnswerHead(head.status, self._translation.content_type, head.retry_after))


def _digests(tags: bytes) -> dict[str, str]:
    """The digest of each listed model."""
    try:
        listed = msgspec.json.decode(tags, type=_Tags).models or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return {entry.model or entry.name: entry.digest for entry in listed}
