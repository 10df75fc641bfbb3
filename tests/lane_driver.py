"""The server and its lane in this process: callers and upstreams in memory, byte by byte, or on real sockets.

    async with served(OpenAIBackend(…)) as plant:
        caller = plant.connect()
        caller.feed(post("/v1/chat/completions", chat("steady")))
        await eventually(lambda: caller.answers)

Everything is the real thing but the sockets: `CallerWire` stands for the caller's, `WiredBackend` for an upstream's.
"""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from typing import Any, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from tests.arrive import prompt_outbox
from tests.corpus.answers import Answer, read_answers
from tests.protocol_driver import Wire
from tests.upstream import eventually as eventually_in_time

from sluicegate.admission.gate import Gate
from sluicegate.backends.backend import AnswerSink, ChatBackend, ChatCall, Health, UpstreamCall, WireDialect
from sluicegate.backends.fleet import Fleet
from sluicegate.backends.openai import OPENAI_ONLY, chat_cards
from sluicegate.backends.upstream.call import Call
from sluicegate.backends.upstream.connection import UpstreamConnection
from sluicegate.backends.upstream.failures import Failures
from sluicegate.domain.clock import SystemClock
from sluicegate.domain.fairness import Tier
from sluicegate.domain.generation import ModelCard
from sluicegate.doors.chat.chat import SimpleChatDoor, SimpleChatRoute
from sluicegate.doors.http.connection import HIGH_WATER, HttpConnection
from sluicegate.doors.http.limits import HttpLimits
from sluicegate.doors.http.server import HttpServer
from sluicegate.doors.lane.exchanges import Exchanges
from sluicegate.doors.lane.lane import Lane
from sluicegate.doors.openai.chat import ChatDoor
from sluicegate.doors.server import build_server
from sluicegate.doors.siblings import NoSiblings
from sluicegate.errors import BackendUnavailable
from sluicegate.observability.access_log import AccessLog
from sluicegate.observability.metrics import Metrics
from sluicegate.scheduling.balancer import Balancer
from sluicegate.settings import TimeoutSettings
from sluicegate.wire.outbox import Outbox
from sluicegate.wire.rests import Rests
from sluicegate.wire.wheel import TICK_SECONDS, Wheel

CHAT = "/v1/chat/completions"
LIMITS = HttpLimits(max_body_bytes=16_000_000, head_seconds=20.0, idle_seconds=60.0)
_MESSAGES = [{"role": "user", "content": "hi"}]
_QUIET_TURNS = 10
READ_BYTES = 32_768
"""What an upstream's connection reads at once."""


class LeapLoop(asyncio.SelectorEventLoop):
    """A loop whose time can be moved on; see `leap`."""

    def __init__(self) -> None:
        super().__init__()
        self.leapt = 0.0

    def time(self) -> float:
        """The machine's time and all leaps."""
        return super().time() + self.leapt


def run_leaping(scenario: Coroutine[Any, Any, None]) -> None:
    """As `asyncio.run`, on a loop that can `leap`."""
    with asyncio.Runner(loop_factory=LeapLoop) as runner:
        runner.run(scenario)


async def leap(seconds: float) -> None:
    """Let so much time pass for every limit at once, and let the wheel look at them before and after."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, LeapLoop)
    for step in (TICK_SECONDS, seconds, TICK_SECONDS):
        loop.leapt += step
        for _ in range(_QUIET_TURNS):
            await asyncio.sleep(0)


class CallerWire(Wire):
    """A caller's connection in memory. What is sent is taken at once, unless the caller is `stalled`."""

    def __init__(self, protocol: HttpConnection) -> None:
        super().__init__(protocol)
        self.connection = protocol
        self.stalled = False
        self.unsent = bytearray()
        self.is_aborted = False
        self._is_told = False
        self._is_ending = False
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take `data`, or keep it while the caller is stalled."""
        if not self.stalled:
            super().write(data)
        elif not (self.is_closing() or self.has_written_eof):
            self.unsent += data
            if len(self.unsent) > HIGH_WATER and not self._is_told:
                self._is_told = True
                self.connection.pause_writing()

    def take(self, count: int | None = None) -> None:
        """Take some of what is unsent, or all of it; the caller stays stalled."""
        count = len(self.unsent) if count is None else count
        self.written += self.unsent[:count]
        del self.unsent[:count]
        if self._is_told and len(self.unsent) <= HIGH_WATER // 4:
            self._is_told = False
            self.connection.resume_writing()
        if self._is_ending and not self.unsent:
            super().close()

    def get_write_buffer_size(self) -> int:
        """Bytes that the caller has not taken."""
        return len(self.unsent)

    def close(self) -> None:
        """Close as soon as all is taken."""
        self._is_ending = True
        if not self.unsent:
            super().close()

    def abort(self) -> None:
        """Close, and lose what is unsent."""
        self.is_aborted = True
        self.unsent.clear()
        super().close()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._is_ending or super().is_closing()

    def end(self) -> None:
        """The caller sends nothing more."""
        if not (self.is_closing() or self.connection.eof_received()):
            self.close()

    def leave(self) -> None:
        """The caller is gone."""
        self.abort()

    def tick(self, later: float) -> None:
        """Let the limits be looked at as if it were `later` seconds later."""
        self.connection.tick(asyncio.get_running_loop().time() + later)

    @property
    def is_over(self) -> bool:
        """Whether the server has ended the connection, or its side of it."""
        return self.is_closing() or self.has_written_eof

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The whole answers so far; fails when something else came."""
        found = read_answers(bytes(self.written), ended=self.is_over)
        assert self.is_over <= (not found.junk), found.junk
        return found.final

    @property
    def statuses(self) -> list[int]:
        """The statuses of `answers`."""
        return [answer.status for answer in self.answers]


class FarEnd:
    """One call as its upstream sees it: it says something, and perhaps ends. Fulfils `Home` of its connection."""

    def __init__(self, call: ChatCall, backend: str, wheel: Wheel) -> None:
        self.call = call
        self.inbox = memoryview(bytearray(READ_BYTES))
        self.outbox: Outbox = prompt_outbox()
        self.rests = Rests(self.outbox)
        self.is_dropped = False
        limits = TimeoutSettings()
        self.connection = UpstreamConnection(self, wheel, Failures(backend, "there", limits), {})
        self.wire = FarWire(cast("asyncio.Protocol", self.connection))
        self.connection.connection_made(self.wire)

    def say(self, data: bytes) -> None:
        """Bytes of the answer arrive, in as many reads as it takes."""
        rest = memoryview(data)
        while rest and not self.wire.is_closing():
            buffer = self.connection.get_buffer(-1)
            count = min(len(buffer), len(rest))
            buffer[:count] = rest[:count]
            self.connection.buffer_updated(count)
            rest = rest[count:]

    def end(self) -> None:
        """The upstream closes the connection."""
        self.connection.eof_received()
        self.connection.connection_lost(None)

    @property
    def is_cancelled(self) -> bool:
        """Whether the connection was broken off by us."""
        return self.wire.is_aborted

    def made(self, connection: UpstreamConnection) -> None:
        """See `Home`."""

    def keep(self, connection: UpstreamConnection) -> None:
        """See `Home`."""

    def drop(self, connection: UpstreamConnection) -> None:
        """See `Home`."""
        self.is_dropped = True

    def gone(self, connection: UpstreamConnection) -> None:
        """See `Home`."""

    def again(self, call: Call) -> None:
        """See `Home`."""
        raise AssertionError("every call has a new connection")

    def refuse(self, call: Call, error: BackendUnavailable) -> None:
        """See `Home`."""
        call.fail(error)


class FarWire(Wire):
    """An upstream's connection in memory."""

    is_aborted = False

    def abort(self) -> None:
        """Close at once."""
        self.is_aborted = True
        self.close()


class WiredBackend:
    """An upstream in memory. Fulfils `ChatBackend`; `calls` has every call made to it, the last one last."""

    kind = "wired"

    def __init__(
        self, name: str = "wired", *models: str, dialects: Collection[WireDialect] = OPENAI_ONLY, most: int = 100
    ) -> None:
        self.name = name
        self.max_concurrency = most
        self.dialects = dialects
        self.calls: list[FarEnd] = []
        self.state = Health(state="up")
        self._cards = chat_cards(name, models or ("m",))
        self._wheel = Wheel()

    def cards(self) -> Sequence[ModelCard]:
        """Its models."""
        return self._cards

    def health(self) -> Health:
        """As `state` has it."""
        return self.state

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Break off what is left."""
        for far in self.calls:
            far.connection.stop()

    def send(self, call: ChatCall, sink: AnswerSink) -> UpstreamCall:
        """See `ChatBackend.send`."""
        far = FarEnd(call, self.name, self._wheel)
        self.calls.append(far)
        asked = Call(b"", call.body, sink, TimeoutSettings(), asyncio.get_running_loop().time())
        far.connection.ask(asked, asked.started)
        return asked

    @property
    def last(self) -> FarEnd:
        """The last call."""
        return self.calls[-1]


def calls_of(metrics: Metrics) -> dict[str, int]:
    """Calls running now and ended so far, by how they ended."""
    ended = {ending: metrics.streams.labels(ending).value for ending in ("completed", "cancelled", "error")}
    return {"active": metrics.active_streams.value, "total": sum(ended.values()), **ended}


class Plant:
    """One server with its lane. `app` answers what is not on the lane."""

    def __init__(
        self,
        backends: Sequence[ChatBackend],
        *,
        app: ASGIApp | None = None,
        limits: HttpLimits = LIMITS,
        max_streams: int = 2_000,
        cors_origins: Collection[str] = (),
        host: str = "127.0.0.1",
    ) -> None:
        self.wheel = Wheel()
        self.fleet = Fleet(backends)
        self.metrics = Metrics()
        self.exchanges = Exchanges(self.metrics, limit=max_streams)
        gate = Gate(host=host, cors_origins=cors_origins, local_tier=Tier(name="local", weight=1.0))
        access_log = AccessLog()
        self.lane = Lane(
            gate=gate,
            balancer=Balancer(self.fleet, patience=0.2),
            exchanges=self.exchanges,
            metrics=self.metrics,
            access_log=access_log,
            wheel=self.wheel,
            cors_origins=cors_origins,
        )
        chat_door = ChatDoor()
        self.lane.serve_routes([*chat_door.routes(), SimpleChatRoute(self.fleet.cards, SystemClock())])
        endpoints = [*chat_door.endpoints(), *SimpleChatDoor(self.exchanges, NoSiblings(self.metrics.dump)).endpoints()]

        def make_app() -> ASGIApp:
            return app or build_server(
                endpoints,
                gate,
                self.metrics,
                access_log,
                max_body_bytes=limits.max_body_bytes,
                client_idle_seconds=limits.idle_seconds,
                cors_origins=cors_origins,
            )

        self.server = HttpServer(self.lane, make_app, limits, self.wheel)
        self.server.outbox = prompt_outbox()
        self.port = 0

    def connect(self) -> CallerWire:
        """A caller in memory."""
        return CallerWire(HttpConnection(self.server))

    async def listen(self, tls: ssl.SSLContext | None = None) -> int:
        """Serve on a real socket, as in earnest; its port."""
        self.server.outbox = Outbox()
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        await self.server.listen(listener, tls)
        return self.port

    def calls(self) -> dict[str, int]:
        """See `calls_of`."""
        return calls_of(self.metrics)

    def counts(self) -> dict[str, int]:
        """Requests by status, and calls by how they ended."""
        family = self.metrics.requests.dump()
        answered = {series.labels[-1]: series.values[0] for series in family.series}
        return answered | {name: count for name, count in self.calls().items() if count}

    def tokens(self) -> int:
        """Tokens counted, of all models."""
        return sum(series.values[0] for series in self.metrics.tokens.dump().series)


@contextlib.asynccontextmanager
async def served(*backends: ChatBackend, **more: Any) -> AsyncIterator[Plant]:
    """A plant before these backends, all of them started and up; at the end nothing may be counted as running."""
    plant = Plant(backends, **more)
    await plant.fleet.start()
    try:
        await eventually(lambda: all(health.state == "up" for health in plant.fleet.health().values()))
        yield plant
    finally:
        await plant.server.close(0.0)
        await plant.fleet.stop()
    assert plant.calls()["active"] == 0
    assert plant.fleet.outstanding() == {}, "a call is still counted at its backend"
    assert not plant.server.connections


async def eventually(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Return once the condition holds, looked at in every turn of the loop, and later now and then."""
    for _ in range(_QUIET_TURNS):
        if condition():
            return
        await asyncio.sleep(0)
    await eventually_in_time(condition, timeout)


async def settled(*wires: CallerWire) -> None:
    """Return once nothing more comes of what was fed, as long as nobody waits for anything but the loop."""
    quiet = 0
    while quiet < _QUIET_TURNS:
        before = [len(wire.written) + len(wire.unsent) for wire in wires]
        await asyncio.sleep(0)
        quiet = quiet + 1 if before == [len(wire.written) + len(wire.unsent) for wire in wires] else 0


def request(method: str, path: str, body: bytes = b"", *lines: str, version: str = "1.1") -> bytes:
    """The bytes of a request; a line that begins with "Host:" replaces ours."""
    host = [] if any(line.lower().startswith("host:") for line in lines) else ["Host: localhost"]
    length = [f"Content-Length: {len(body)}"] if body and not any("chunked" in line for line in lines) else []
    head = "\r\n".join([f"{method} {path} HTTP/{version}", *host, *length, *lines])
    return f"{head}\r\n\r\n".encode("latin-1") + body


def post(path: str, body: bytes, *lines: str, version: str = "1.1") -> bytes:
    """The bytes of a POST."""
    return request("POST", path, body, *lines, version=version)


def chat(model: str = "m", **more: Any) -> bytes:
    """The body of a chat call in OpenAI's dialect; ``script`` is for tests/upstream_server.py."""
    return json.dumps({"model": model, "messages": _MESSAGES, **more}).encode()


def simple_chat(**more: Any) -> bytes:
    """The body of a call of the simple chat API."""
    return json.dumps({"messages": _MESSAGES, **more}).encode()


def whole(body: bytes, content_type: str = "application/json", status: int = 200, *lines: str) -> bytes:
    """The bytes of an upstream's answer with a content-length."""
    head = "\r\n".join([f"HTTP/1.1 {status} Said", f"content-type: {content_type}", *lines])
    return f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def stream_head(content_type: str = "text/event-stream") -> bytes:
    """The head of an upstream's stream, whose body is chunked."""
    return f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()


def chunked(*pieces: bytes, last: bool = False) -> bytes:
    """Pieces in the chunked coding."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + (b"0\r\n\r\n" if last else b"")


def chunk_event(text: str, finish: str | None = None, **more: Any) -> bytes:
    """An event of OpenAI's dialect."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def echo_app(seen: list[dict[str, Any]] | None = None) -> ASGIApp:
    """An application that answers with method, path and body; `seen` gets the scopes."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if seen is not None:
            seen.append(cast("dict[str, Any]", scope))
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        told = b"%b %b %b" % (scope["method"].encode(), scope["path"].encode(), body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": told})

    return app
