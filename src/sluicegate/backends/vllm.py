"""Kind "vllm": a vLLM server, which speaks OpenAI's dialect and tells how busy it is.

Its own request fields (``guided_json``, ``top_k``, ``chat_template_kwargs``, …) go through untouched, as every unknown
field does. Besides its models it is asked for ``/health``, which tells whether the engine still lives, and for
``/metrics`` (https://docs.vllm.ai/en/stable/usage/metrics/).
"""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from sluicegate.backends.backend import AnswerSink, ChatCall, Health, UpstreamCall
from sluicegate.backends.openai import OPENAI_ONLY, PROBE_TIMEOUT, OpenAIBackend
from sluicegate.backends.upstream import UpstreamClient
from sluicegate.domain.generation import ModelCard
from sluicegate.errors import BackendError
from sluicegate.observability.health import ServerLoad
from sluicegate.settings import BackendSettings
from sluicegate.wire.wheel import Wheel

_SAMPLE: Final = re.compile(
    rb"^vllm:(num_requests_running|num_requests_waiting|kv_cache_usage_perc|gpu_cache_usage_perc)"
    rb"(?:\{[^\n]*\})?[ \t]+([0-9.eE+-]+)(?:[ \t]+[0-9-]+)?[ \t]*\r?$",
    re.MULTILINE,
)

_ABSURD = 1e12

_log = logging.getLogger(__name__)


class VLLMBackend:
    """An `OpenAIBackend` that is also asked for its health and its load."""

    kind = "vllm"
    dialects = OPENAI_ONLY

    def __init__(
        self,
        settings: BackendSettings,
        *,
        wheel: Wheel | None = None,
        environment: Mapping[str, str] | None = None,
        probe_seconds: float = 10.0,
        down_probe_seconds: float = 1.0,
    ) -> None:
        self.name = settings.name
        self.max_concurrency = settings.max_concurrency
        self._root = urlsplit(settings.url).path.rstrip("/").removesuffix("/v1")
        self._server = OpenAIBackend(
            settings,
            wheel=wheel,
            environment=environment,
            probe_seconds=probe_seconds,
            down_probe_seconds=down_probe_seconds,
            also=self._look,
        )

    def cards(self) -> Sequence[ModelCard]:
        """The models named in the settings, or else those that the server last listed."""
        return self._server.cards()

    def health(self) -> Health:
        """As of the last probe or failed call; with the server's load, where it tells it."""
        return self._server.health()

    async def start(self) -> None:
        """Begin to probe."""
        await self._server.start()

    async def stop(self) -> None:
        """End the probing and close the connections; answers still open break off."""
        await self._server.stop()

    def send(self, call: ChatCall, sink: AnswerSink) -> UpstreamCall:
        """See `ChatBackend.send`."""
        return self._server.send(call, sink)

    async def _look(self, client: UpstreamClient) -> Health:
        """How the engine is. A server that has no ``/health`` is taken as it is."""
        status, _ = await client.get(f"{self._root}/health", timeout=PROBE_TIMEOUT)
        if status >= 500:
            mend = "its engine is dead; start the server again"
            return Health(state="down", reason=f"{self.name}: GET health is answered with {status}: {mend}")
        try:
            status, body = await client.get(f"{self._root}/metrics", timeout=PROBE_TIMEOUT)
        except BackendError as error:
            _log.debug("backend %s tells no load: %s", self.name, error.message)
            return Health(state="up")
        return Health(state="up", load=read_load(body) if status == 200 else None)


def read_load(metrics: bytes) -> ServerLoad | None:
    """The load out of a page of metrics in Prometheus' text form; None when it does not tell the requests.

    Counts of several engines are added up. Older servers call the cache's gauge ``gpu_cache_usage_perc``.
    """
    counts: dict[bytes, float] = {}
    cache_use: float | None = None
    for name, value in _SAMPLE.findall(metrics):
        try:
            number = float(value)
        except ValueError:
            continue
        if not 0 <= number < _ABSURD:
            continue
        if name.endswith(b"_perc"):
            cache_use = number if cache_use is None else max(cache_use, number)
        else:
            counts[name] = counts.get(name, 0.0) + number
    if b"num_requests_running" not in counts:
        return None
    return ServerLoad(
        running=int(counts[b"num_requests_running"]),
        waiting=int(counts.get(b"num_requests_waiting", 0.0)),
        cache_use=cache_use,
    )
