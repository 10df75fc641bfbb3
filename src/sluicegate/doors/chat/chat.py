"""``POST /api/chat``, ``DELETE /api/chat/{requestId}``, ``GET /api/chat/streams``.

A streamed answer is server-sent events, each with the request's id: ``chat.completion.chunk``, then one
``chat.completion.done`` or ``error``.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sluicegate.backends.events import EventReader
from sluicegate.domain.clock import Clock
from sluicegate.domain.generation import ModelCard
from sluicegate.domain.ids import RequestId
from sluicegate.doors.endpoint import Answer, Call, Endpoint, json_response
from sluicegate.doors.exchanges import Exchanges
from sluicegate.doors.relay import Order, Outlet, Relay, Relayed
from sluicegate.doors.streams import SSE_HEADERS, sse
from sluicegate.errors import BackendFailed, BackendUnavailable, SluicegateError


class ChatTurn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: Annotated[str, Meta(min_length=1, max_length=10_000)]


class SimpleChatRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The body of a call. `model` absent takes the first chat model."""

    messages: Annotated[list[ChatTurn], Meta(min_length=1, max_length=2_000)]
    model: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=4096)] | None = None
    stream: bool = True


class Usage(msgspec.Struct, frozen=True, rename="camel"):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class SimpleChatAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer of a call that is not streamed."""

    request_id: RequestId
    model: str
    content: str
    usage: Usage


class StreamCounts(msgspec.Struct, frozen=True):
    """Calls running now, and ended since the start, by how they ended."""

    active: int
    total: int
    completed: int
    cancelled: int
    error: int


class SimpleChatDoor:
    """Serves the simple chat API."""

    def __init__(
        self, relay: Relay, exchanges: Exchanges, cards: Callable[[], Sequence[ModelCard]], clock: Clock
    ) -> None:
        self._relay = relay
        self._exchanges = exchanges
        self._cards = cards
        self._clock = clock

    def endpoints(self) -> list[Endpoint]:
        """The routes of this door."""
        return [
            Endpoint(
                method="POST",
                path="/api/chat",
                handler=self.chat,
                dialect="chat",
                tag="Chat API",
                summary="Chat, streamed unless `stream` is false",
                body=SimpleChatRequest,
                answers={200: SimpleChatAnswer},
            ),
            Endpoint(
                method="GET",
                path="/api/chat/streams",
                handler=self.streams,
                dialect="chat",
                tag="Chat API",
                summary="How many calls run and have ended",
                answers={200: StreamCounts},
            ),
            Endpoint(
                method="DELETE",
                path="/api/chat/{requestId}",
                handler=self.cancel,
                dialect="chat",
                tag="Chat API",
                summary="Cancel a running call",
                answers={200: dict[str, Any]},
            ),
        ]

    async def chat(self, call: Call) -> Answer:
        """Start a call."""
        request, _ = await call.decode(SimpleChatRequest)
        model = request.model or self._default_model()
        order = Order(
            principal=call.principal,
            request_id=call.request_id,
            model=model,
            path="chat/completions",
            body=_translate(request, model),
            stream=request.stream,
        )
        started = self._clock.monotonic()
        rendering = _Events(order, self._clock, started) if request.stream else _Whole(order)
        return self._relay.answer(order, rendering)

    async def streams(self, call: Call) -> Answer:
        """Count calls."""
        return json_response(self._exchanges.count())

    async def cancel(self, call: Call) -> Answer:
        """Cancel one of the caller's own calls. Raises `UnknownStream`."""
        request_id = RequestId(call.path("requestId"))
        self._exchanges.cancel(call.principal.tenant, request_id)
        return json_response({"requestId": request_id, "cancelled": True})

    def _default_model(self) -> str:
        for card in self._cards():
            if "chat" in card.tasks:
                return card.id
        raise BackendUnavailable("no chat model is up; see /health", retry_after=2)


def _translate(request: SimpleChatRequest, model: str) -> bytes:
    """The same call in OpenAI's dialect."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": turn.role, "content": turn.content} for turn in request.messages],
        "stream": request.stream,
    }
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.stream:
        body["stream_options"] = {"include_usage": True}
    return msgspec.json.encode(body)


class _UsageWords(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    message: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    """The parts of an OpenAI answer or chunk that this dialect shows."""

    choices: list[_Choice] = []
    usage: _UsageWords | None = None
    error: Any = None


def _decode(data: bytes) -> _Completion:
    try:
        chunk = msgspec.json.decode(data, type=_Completion)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BackendFailed("the backend sent an event that is no JSON of OpenAI's dialect") from None
    if chunk.error is not None:
        raise BackendFailed(f"the backend reported an error: {str(chunk.error)[:500]}")
    return chunk


class _Events:
    """Streamed: each chunk of text as an event, then the totals."""

    def __init__(self, order: Order, clock: Clock, started: float) -> None:
        self._order = order
        self._clock = clock
        self._started = started

    async def render(self, relayed: Relayed, outlet: Outlet) -> None:
        """Translate the backend's events one by one. Raises `BackendFailed` when they end before the answer does."""
        if not relayed.content_type.startswith("text/event-stream"):
            raise BackendFailed(f'the backend sent "{relayed.content_type[:80]}" where events were asked for')
        await outlet.head(SSE_HEADERS)
        usage: _UsageWords | None = None
        counted = 0
        events = EventReader(relayed.pieces())
        is_whole = False
        async for data in events:
            chunk = _decode(data)
            usage = chunk.usage or usage
            is_whole = is_whole or any(choice.finish_reason for choice in chunk.choices)
            content = "".join(choice.delta.content or "" for choice in chunk.choices)
            if content:
                counted += 1
                await outlet.piece(
                    self._event(
                        "chat.completion.chunk", {"model": self._order.model, "content": content, "done": False}
                    )
                )
        if not (is_whole or events.is_done):
            raise BackendFailed("the backend ended its answer before it was complete")
        done = {
            "model": self._order.model,
            "totalDuration": int((self._clock.monotonic() - self._started) * 1e9),
            "evalCount": usage.completion_tokens if usage else counted,
            "done": True,
        }
        await outlet.piece(self._event("chat.completion.done", done), more=False)
        await events.finish()

    def broken(self, error: SluicegateError) -> bytes:
        """The error event."""
        return self._event("error", {"code": error.code.upper(), "message": error.message})

    def _event(self, name: str, data: dict[str, Any]) -> bytes:
        return sse(data, event=name, event_id=self._order.request_id)


class _Whole:
    """Not streamed: one JSON object."""

    def __init__(self, order: Order) -> None:
        self._order = order

    async def render(self, relayed: Relayed, outlet: Outlet) -> None:
        """Translate the whole answer."""
        completion = _decode(await relayed.whole())
        usage = completion.usage or _UsageWords()
        answer = SimpleChatAnswer(
            request_id=self._order.request_id,
            model=self._order.model,
            content="".join(choice.message.content or "" for choice in completion.choices[:1]),
            usage=Usage(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens),
        )
        body = msgspec.json.encode(answer)
        await outlet.head({"content-type": "application/json", "content-length": str(len(body))})
        await outlet.piece(body, more=False)

    def broken(self, error: SluicegateError) -> bytes:
        """Nothing can be added to a JSON body that was cut."""
        return b""
