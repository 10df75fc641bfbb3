"""The words of OpenAI's dialect, as far as they can be said in Ollama's, or come back from it.

Requests are validated; answers are read kindly, since many servers speak this dialect with an accent.
Source: https://platform.openai.com/docs/api-reference (chat, completions, embeddings).
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(min_length=1, max_length=256)]
ModelName = Annotated[str, Meta(min_length=1, max_length=200)]
Tokens = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]


class ImageUrl(msgspec.Struct, frozen=True):
    """Where a picture is."""

    url: str


class Part(msgspec.Struct, frozen=True):
    """A part of a message's content."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None


class CalledFunction(msgspec.Struct, frozen=True):
    """What an assistant called; `arguments` is JSON inside a string."""

    name: Name
    arguments: str = ""


class ToolCall(msgspec.Struct, frozen=True):
    """One call."""

    function: CalledFunction
    id: str = ""
    type: str = "function"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. `reasoning` and `reasoning_content` are two servers' names for the same."""

    role: Annotated[str, Meta(min_length=1, max_length=32)]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None


class ToolFunction(msgspec.Struct, frozen=True):
    """A function that may be called."""

    name: Name


class Tool(msgspec.Struct, frozen=True):
    """Something that the model may use; only functions are known to both dialects."""

    type: Literal["function"]
    function: ToolFunction


class JsonSchema(msgspec.Struct, frozen=True):
    """A named schema."""

    schema: dict[str, Any]
    name: str = "answer"


class ResponseFormat(msgspec.Struct, frozen=True):
    """The form that an answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    """Whether a last chunk tells the token counts."""

    include_usage: bool | None = None


class Reasoning(msgspec.Struct, frozen=True):
    """How long to think, in the form of some routers."""

    effort: str | None = None


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How to draw tokens. The second group is not OpenAI's own, but understood by the servers people run."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Share | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    max_tokens: Tokens | None = None

    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    repetition_penalty: float | None = None
    repeat_last_n: int | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    options: dict[str, Any] | None = None
    """Ollama's own, passed on as they are; they win over the fields above."""


class ChatRequest(Sampling, frozen=True, kw_only=True):
    """``POST /v1/chat/completions``."""

    model: ModelName
    messages: Annotated[list[Message], Meta(min_length=1, max_length=2_000)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: Tokens | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | Tool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    reasoning_effort: str | None = None
    reasoning: Reasoning | None = None
    think: bool | str | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class CompletionRequest(Sampling, frozen=True, kw_only=True):
    """``POST /v1/completions``."""

    model: ModelName
    prompt: str | list[Any]
    suffix: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    best_of: Annotated[int, Meta(ge=1, le=20)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


class EmbeddingsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /v1/embeddings``."""

    model: ModelName
    input: str | list[Any]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Tokens | None = None


class CallDelta(msgspec.Struct, frozen=True):
    """A piece of a function's name or arguments."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(msgspec.Struct, frozen=True):
    """A piece of a call; pieces of one call share their `index`."""

    index: int | None = None
    id: str | None = None
    function: CallDelta | None = None


class Delta(msgspec.Struct, frozen=True):
    """What a chunk adds, or a whole message."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    tool_calls: list[ToolCallDelta] | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, or a piece of it: `delta` in chat streams, `message` in whole chat answers, `text` in completions."""

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Any = None


class PromptDetails(msgspec.Struct, frozen=True):
    """Of the prompt's tokens, those that were in a cache."""

    cached_tokens: int | None = None


class Usage(msgspec.Struct, frozen=True):
    """Token counts."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None


class Timings(msgspec.Struct, frozen=True):
    """Milliseconds and counts that llama.cpp's server adds."""

    prompt_n: int | None = None
    prompt_ms: float | None = None
    predicted_n: int | None = None
    predicted_ms: float | None = None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer or a chunk of one. `object` is "error", and `message` its words, in older vLLM servers."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    error: Any = None
    object: Any = None
    message: Any = None


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """One vector: an array of numbers, or base64 of little-endian floats."""

    embedding: msgspec.Raw
    index: int | None = None


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """All vectors of a call."""

    data: list[Embedding] = []
    usage: Usage | None = None
    error: Any = None
