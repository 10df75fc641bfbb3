"""What a caller of Ollama's dialect hears while the backend is silent; time is given, not waited for."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from tests.ollama_peer import ollama_peer
from tests.upstream import eventually

from sluicegate.admission.gate import Gate
from sluicegate.backends.fleet import Fleet
from sluicegate.backends.ollama import OllamaBackend
from sluicegate.domain.clock import SystemClock
from sluicegate.domain.ids import RequestId
from sluicegate.doors.http.request import Request
from sluicegate.doors.lane.exchanges import Exchanges
from sluicegate.doors.lane.lane import Lane
from sluicegate.doors.lane.orders import HEARTBEAT_SECONDS, Order
from sluicegate.doors.lane.relay_call import RelayCall
from sluicegate.doors.ollama.calls import OllamaRoute
from sluicegate.errors import Draining, SluicegateError
from sluicegate.observability.access_log import AccessLog
from sluicegate.observability.metrics import Metrics
from sluicegate.scheduling.balancer import Balancer
from sluicegate.settings import BackendSettings, Settings
from sluicegate.wire.wheel import Wheel


class Heard(RelayCall):
    """A caller who remembers what it hears."""

    def __init__(self, lane: Lane) -> None:
        super().__init__(lane)
        self.content_type = ""
        self.said = b""
        self.error: SluicegateError | None = None

    def begin(self, content_type: str, length: int | None) -> None:
        self.content_type = content_type

    def piece(self, data: bytes) -> None:
        self.said += data

    def end(self, error: SluicegateError | None) -> None:
        self.error = error


Scene = Callable[[Heard], Awaitable[None]]


def play(model: str, scene: Scene) -> None:
    """A call for the model of a scripted Ollama server, streamed; nothing but the scene turns its clock."""

    async def run(url: str) -> None:
        backend = OllamaBackend(BackendSettings(name="o", kind="ollama", url=url))
        fleet, metrics, settings = Fleet([backend]), Metrics(), Settings()
        gate = Gate(host="127.0.0.1", cors_origins=(), local_tier=settings.local_tier)
        lane = Lane(
            gate=gate,
            balancer=Balancer(fleet),
            exchanges=Exchanges(metrics, limit=10),
            metrics=metrics,
            access_log=AccessLog(),
            wheel=Wheel(tick_seconds=3_600),
        )
        await fleet.start()
        try:
            await eventually(lambda: backend.health().state == "up")
            request = Request(b"POST", b"/api/chat", b"", [], {})
            body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "options": {}}
            request.pieces = [json.dumps(body).encode()]
            order = OllamaRoute("/api/chat", fleet, SystemClock()).order(request, gate.admit({}), RequestId("r"))
            assert isinstance(order, Order)
            call = Heard(lane)
            call.start(order)
            await scene(call)
            call.stop(Draining("stopping"))
            assert isinstance(call.error, Draining)
        finally:
            await fleet.stop()

    with ollama_peer() as peer:
        asyncio.run(run(peer.url))


@pytest.mark.parametrize(("model", "parts"), [("slow-head", 0), ("idle-gap", 2)])
def test_a_silent_stream_is_kept_alive_by_white_space_between_lines(model: str, parts: int) -> None:
    async def scene(call: Heard) -> None:
        await eventually(lambda: call.said.count(b"\n") == parts)
        before = call.said
        call.tick(100.0)
        call.tick(99.9 + HEARTBEAT_SECONDS)
        assert call.said == before
        call.tick(100.0 + HEARTBEAT_SECONDS)
        call.tick(100.0 + 2 * HEARTBEAT_SECONDS)
        assert call.said == before + b"  "
        assert call.content_type == "application/x-ndjson"
        last = call.said + call.order.wording.broken(Draining("stopping"))
        told = [json.loads(line) for line in last.splitlines()]
        assert [*(part["done"] for part in told[:-1]), told[-1]] == [*[False] * parts, {"error": "stopping"}]

    play(model, scene)
