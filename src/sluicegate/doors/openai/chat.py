"""``POST /v1/chat/completions``, ``/v1/completions``, ``/v1/embeddings``: check what we must, pass everything on.

The backends speak this dialect, so the lane relays their bytes as they come.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from sluicegate.backends.backend import ChatCall
from sluicegate.domain.generation import ModelCard
from sluicegate.domain.ids import RequestId
from sluicegate.domain.principal import Principal
from sluicegate.doors.decoding import BodyDecoder
from sluicegate.doors.endpoint import Endpoint
from sluicegate.doors.http.request import Request
from sluicegate.doors.lane.orders import Order
from sluicegate.doors.lane.wordings import EventWording
from sluicegate.doors.problems import Dialect, openai_error
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


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A text to be gone on with. `prompt`: text, texts, or tokens."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    prompt: str | list[Any]
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    user: str | None = None
    stream_options: dict[str, Any] | None = None


class EmbeddingsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts, or their tokens, to be turned into vectors."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    input: str | list[Any]
    encoding_format: Annotated[str, Meta(max_length=16)] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: str | None = None


class OpenAIWording(EventWording):
    """An error event, after which the stream ends without ``[DONE]``."""

    def broken(self, error: SluicegateError) -> bytes:
        """See `Wording.broken`."""
        return b"data: %b\n\n" % msgspec.json.encode(openai_error(error))


Asked = TypeVar("Asked", ChatRequest, CompletionRequest, EmbeddingsRequest)
_WORDING = OpenAIWording()


class OpenAIRoute(Generic[Asked]):
    """One hot route of this dialect. `pictures` are models that exist, but do not chat. Fulfils `HotRoute`."""

    def __init__(self, path: str, kind: type[Asked], pictures: Mapping[str, ModelCard]) -> None:
        self.path = path
        self._upstream_path = path.removeprefix("/v1/")
        self._decode: BodyDecoder[Asked] = BodyDecoder(kind)
        self._pictures = pictures

    def dialect_of(self, request: Request) -> Dialect:
        """Always OpenAI's."""
        return "openai"

    def order(self, request: Request, principal: Principal, request_id: RequestId) -> Order:
        """See `HotRoute.order`."""
        pieces = request.pieces
        body = pieces[0] if len(pieces) == 1 else request.body
        asked = self._decode(body)
        model = asked.model
        if model in self._pictures:
            card = self._pictures[model]
            tasks = ", ".join(card.tasks)
            message = f'"{card.id}" does not chat, it does {tasks}; send the work to /v1/jobs or /v1/images'
            raise UnknownModel(message, details={"param": "model"})
        is_stream = not isinstance(asked, EmbeddingsRequest) and bool(asked.stream)
        call = ChatCall(self._upstream_path, body, request_id, is_stream)
        return Order(principal, request_id, model, is_stream, _WORDING, call)


class ChatDoor:
    """The text routes of OpenAI's dialect, which the lane serves."""

    def __init__(self, pictures: Sequence[ModelCard] = ()) -> None:
        self._pictures = {card.id: card for card in pictures}

    def routes(self) -> Sequence[OpenAIRoute[Any]]:
        """The hot routes."""
        return (
            OpenAIRoute("/v1/chat/completions", ChatRequest, self._pictures),
            OpenAIRoute("/v1/completions", CompletionRequest, self._pictures),
            OpenAIRoute("/v1/embeddings", EmbeddingsRequest, self._pictures),
        )

    def endpoints(self) -> list[Endpoint]:
        """What the documents say of them."""
        streamed_or_whole = {200: "application/json or text/event-stream"}
        return [
            Endpoint(
                method="POST",
                path="/v1/chat/completions",
                handler=None,
                dialect="openai",
                tag="OpenAI",
                summary="Chat completion, streamed (`stream: true`) or whole",
                body=ChatRequest,
                answers=streamed_or_whole,
            ),
            Endpoint(
                method="POST",
                path="/v1/completions",
                handler=None,
                dialect="openai",
                tag="OpenAI",
                summary="Go on with a text, streamed (`stream: true`) or whole",
                body=CompletionRequest,
                answers=streamed_or_whole,
            ),
            Endpoint(
                method="POST",
                path="/v1/embeddings",
                handler=None,
                dialect="openai",
                tag="OpenAI",
                summary="Turn texts into vectors, by a backend whose model does that",
                body=EmbeddingsRequest,
                answers={200: "application/json"},
            ),
        ]
