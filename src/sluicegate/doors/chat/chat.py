"""``POST /api/chat``, ``DELETE /api/chat/{requestId}``, ``GET /api/chat/streams``.

A streamed answer is server-sent events, each with the request's id: ``chat.completion.chunk``, then one
``chat.completion.done`` or ``error``.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sluicegate.backends.backend import ChatCall, WireDialect
from sluicegate.backends.dialects.translation import Translation
from sluicegate.domain.clock import Clock
from sluicegate.domain.generation import ModelCard
from sluicegate.domain.ids import RequestId
from sluicegate.domain.principal import Principal
from sluicegate.doors.chat.answers import EventsForm, SimpleChatAnswer, SimpleWording, answer_to_simple
from sluicegate.doors.decoding import BodyDecoder
from sluicegate.doors.endpoint import Answer, Call, Endpoint, json_response
from sluicegate.doors.http.request import Request
from sluicegate.doors.lane.exchanges import Exchanges
from sluicegate.doors.lane.orders import Order
from sluicegate.doors.problems import Dialect
from sluicegate.doors.siblings import Siblings, stream_counts
from sluicegate.errors import BackendUnavailable, UnknownStream


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


class StreamCounts(msgspec.Struct, frozen=True):
    """Calls running now, and ended since the start, by how they ended."""

    active: int
    total: int
    completed: int
    cancelled: int
    error: int


class SimpleChatRoute:
    """``POST /api/chat`` on the lane. Fulfils `HotRoute`."""

    path = "/api/chat"

    def __init__(self, cards: Callable[[], Sequence[ModelCard]], clock: Clock) -> None:
        self._cards = cards
        self._clock = clock
        self._decode = BodyDecoder(SimpleChatRequest)

    def dialect_of(self, request: Request) -> Dialect:
        """Always this one."""
        return "chat"

    def order(self, request: Request, principal: Principal, request_id: RequestId) -> Order:
        """See `HotRoute.order`."""
        return self.order_of(self._decode(request.body), principal, request_id)

    def order_of(self, asked: SimpleChatRequest, principal: Principal, request_id: RequestId) -> Order:
        """The order for a decoded call, also one that came over a WebSocket. Raises `BackendUnavailable`."""
        model = asked.model or self._default_model()
        form = EventsForm(model, request_id, self._clock)
        call = ChatCall("chat/completions", _translate(asked, model), request_id, asked.stream)

        def translation(_: WireDialect) -> Translation:
            return answer_to_simple(form, is_stream=asked.stream)

        return Order(principal, request_id, model, asked.stream, SimpleWording(form), call, translation)

    def _default_model(self) -> str:
        for card in self._cards():
            if "chat" in card.tasks:
                return card.id
        raise BackendUnavailable("no chat model is up; see /health", retry_after=2)


class SimpleChatDoor:
    """What stands beside the hot route: the documents, the counts, and cancelling."""

    def __init__(self, exchanges: Exchanges, siblings: Siblings) -> None:
        self._exchanges = exchanges
        self._siblings = siblings

    def endpoints(self) -> list[Endpoint]:
        """The routes of this door."""
        return [
            Endpoint(
                method="POST",
                path="/api/chat",
                handler=None,
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

    async def streams(self, call: Call) -> Answer:
        """Count calls, of all processes together."""
        return json_response(stream_counts(await self._siblings.metrics()))

    async def cancel(self, call: Call) -> Answer:
        """Cancel one of the caller's own calls, in whichever process it runs. Raises `UnknownStream`."""
        request_id = RequestId(call.path("requestId"))
        tenant = call.principal.tenant
        unknown: UnknownStream | None = None
        try:
            self._exchanges.cancel(tenant, request_id)
        except UnknownStream as error:
            unknown = error
        # An id is unique in one process only, so the others are asked in any case.
        if not await self._siblings.cancel(tenant, request_id) and unknown is not None:
            raise unknown
        return json_response({"requestId": request_id, "cancelled": True})


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
