"""The words of Ollama's dialect. Durations are nanoseconds.

Source: Ollama's API reference (docs/api.md and docs/api/ of ollama/ollama) and its types (api/types.go).
"""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

ModelName = Annotated[str, Meta(min_length=1, max_length=200)]
Number = int | float


class CalledFunction(msgspec.Struct, frozen=True):
    """What an assistant called; `arguments` is an object."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    arguments: dict[str, Any] = {}


class ToolCall(msgspec.Struct, frozen=True):
    """One call. Servers before 0.13 send and read no `id`."""

    function: CalledFunction
    id: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn; `images` are base64."""

    role: Annotated[str, Meta(min_length=1, max_length=32)]
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to draw tokens. Options that say how to load a model mean nothing to other servers and are not read."""

    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: Number | None = None
    stop: list[str] | str | None = None
    num_predict: Number | None = None
    """At most so many tokens; 0 and less: no such limit."""
    top_k: Number | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: Number | None = None
    mirostat: Number | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    """What every call may hold."""

    model: ModelName
    options: Options | None = None
    keep_alive: Any = None


class _Answering(_Request, frozen=True, kw_only=True):
    """What calls for text may hold."""

    stream: bool | None = None
    """None means true."""
    format: str | dict[str, Any] | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


class ToolFunction(msgspec.Struct, frozen=True):
    """A function that may be called."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]


class Tool(msgspec.Struct, frozen=True):
    """Something that the model may use."""

    function: ToolFunction
    type: str = "function"


class ChatRequest(_Answering, frozen=True, kw_only=True):
    """``POST /api/chat``. Without messages the model is only loaded."""

    messages: Annotated[list[Message], Meta(max_length=2_000)] | None = None
    tools: list[Tool] | None = None


class GenerateRequest(_Answering, frozen=True, kw_only=True):
    """``POST /api/generate``. Without a prompt the model is only loaded."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    raw: bool | None = None
    images: list[str] | None = None


class EmbedRequest(_Request, frozen=True, kw_only=True):
    """``POST /api/embed``."""

    input: str | list[str] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    truncate: bool | None = None


class EmbeddingsRequest(_Request, frozen=True, kw_only=True):
    """``POST /api/embeddings``, which `EmbedRequest` superseded."""

    prompt: str | None = None


class AnsweredFunction(msgspec.Struct, frozen=True):
    """A call in an answer, its arguments as they were written."""

    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class AnsweredCall(msgspec.Struct, frozen=True):
    """One call in an answer."""

    function: AnsweredFunction
    id: str | None = None


class AnsweredMessage(msgspec.Struct, frozen=True):
    """What a line adds, or a whole message."""

    content: str | None = None
    thinking: str | None = None
    tool_calls: list[AnsweredCall] | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer of ``/api/chat`` or ``/api/generate``, or a line of one."""

    message: AnsweredMessage | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    prompt_eval_cached_count: int | None = None
    eval_count: int | None = None
    logprobs: list[dict[str, Any]] | None = None
    error: Any = None


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of ``/api/embed``; each vector as it was written."""

    embeddings: list[msgspec.Raw] | None = None
    prompt_eval_count: int | None = None
    error: Any = None


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is."""

    parent_model: str | None = ""
    format: str | None = ""
    family: str | None = ""
    families: list[str] | None = None
    parameter_size: str | None = ""
    quantization_level: str | None = ""


class ListedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``/api/tags``; newer servers add the last two fields."""

    name: str = ""
    model: str = ""
    details: Details | None = None
    capabilities: list[str] | None = None
    context_length: int | None = None


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``/api/tags`` and ``/api/ps``."""

    models: list[ListedModel] | None = None


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``/api/show``, as far as it is used."""

    details: Details | None = None
    model_info: dict[str, Any] | None = None
    capabilities: list[str] | None = None


def timestamp(seconds: float) -> datetime:
    """A time, in seconds since the epoch; encoded, it is as this dialect writes it: ``2023-08-04T19:22:45.499127Z``."""
    return datetime.fromtimestamp(seconds, UTC)
