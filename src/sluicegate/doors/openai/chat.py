"""``POST /v1/chat/completions``: validate what we must, pass everything on, relay the answer's bytes."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from sluicegate.domain.generation import ModelCard
from sluicegate.doors.endpoint import Answer, Call, Endpoint
from sluicegate.doors.problems import openai_error
from sluicegate.doors.relay import Order, Outlet, Relay, Relayed
from sluicegate.doors.streams import SSE_HEADERS, sse
from sluicegate.errors import SluicegateError, UnknownModel


class ContentPart(msgspec.Struct, frozen=True):
    """A part of a message: text, a picture, sound. Fields that we do not name are passed on, here and below."""

    type: Annotated[str, Meta(min_length=1, max_length=64)]


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the model made in an earlier turn."""

    id: str
    type: Annotated[str, Meta(min_length=1, max_length=64)] = "function"


class ToolFunction(msgspec.Struct, frozen=True):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    parameters: dict[str, Any] | None = None


class Tool(msgspec.Struct, frozen=True):
    """Something that the model may use."""

    type: Annotated[str, Meta(min_length=1, max_length=64)]
    function: ToolFunction | None = None


class ChatMessage(msgspec.Struct, frozen=True):
    """One turn."""

    role: Annotated[str, Meta(min_length=1, max_length=32)]
    content: str | list[ContentPart] | None = None
    tool_calls: list[ToolCall] | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is checked before a backend is asked. Fields that we do not name are passed on, not refused."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=2_000)]
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    user: str | None = None
    stream_options: dict[str, Any] | None = None
    tools: list[Tool] | None = None


class ChatDoor:
    """Serves chat completions. `pictures` are models that exist, but do not chat."""

    def __init__(self, relay: Relay, pictures: Sequence[ModelCard] = ()) -> None:
        self._relay = relay
        self._pictures = {card.id: card for card in pictures}

    def endpoints(self) -> list[Endpoint]:
        """The routes of this door."""
        return [
            Endpoint(
                method="POST",
                path="/v1/chat/completions",
                handler=self.complete,
                dialect="openai",
                tag="OpenAI",
                summary="Chat completion, streamed (`stream: true`) or whole",
                body=ChatRequest,
                answers={200: "application/json or text/event-stream"},
            )
        ]

    async def complete(self, call: Call) -> Answer:
        """Relay one completion."""
        request, body = await call.decode(ChatRequest)
        card = self._pictures.get(request.model)
        if card is not None:
            tasks = ", ".join(card.tasks)
            message = f'"{card.id}" does not chat, it does {tasks}; send the work to /v1/jobs or /v1/images'
            raise UnknownModel(message, details={"param": "model"})
        order = Order(
            principal=call.principal,
            request_id=call.request_id,
            model=request.model,
            path="chat/completions",
            body=body,
            stream=bool(request.stream),
        )
        return self._relay.answer(order, _Verbatim(stream=order.stream))


class _Verbatim:
    """The backend speaks this dialect: its bytes are the answer."""

    def __init__(self, *, stream: bool) -> None:
        self._stream = stream

    async def render(self, relayed: Relayed, outlet: Outlet) -> None:
        """Pass the body on, piece by piece or whole."""
        if self._stream:
            await outlet.head({**SSE_HEADERS, "content-type": relayed.content_type})
            async for piece in relayed.pieces():
                await outlet.piece(piece)
            await outlet.piece(b"", more=False)
            return
        body = await relayed.whole()
        await outlet.head({"content-type": relayed.content_type, "content-length": str(len(body))})
        await outlet.piece(body, more=False)

    def broken(self, error: SluicegateError) -> bytes:
        """An error event, after which the stream ends without ``[DONE]``."""
        return sse(openai_error(error))
