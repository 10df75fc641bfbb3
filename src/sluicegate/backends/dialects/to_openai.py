"""Requests of Ollama's dialect, said in OpenAI's.

What the other side cannot do is refused (`template`, `context`); how a model is loaded (`keep_alive`, `num_ctx`,
`num_gpu`, …) is no business of an OpenAI-compatible server and left out. Fields that Ollama does not know are passed
on. `think` becomes ``chat_template_kwargs.enable_thinking`` when it is a switch, as llama.cpp, vLLM and SGLang
read it, and `reasoning_effort` when it is a level.
"""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from sluicegate.backends.dialects.bodies import read_request
from sluicegate.backends.dialects.messages_to_openai import messages_to_openai, picture_parts
from sluicegate.backends.dialects.ollama import ChatRequest, EmbeddingsRequest, EmbedRequest, GenerateRequest
from sluicegate.backends.dialects.sampling import sampling_of
from sluicegate.errors import Fault, InvalidInput

Kind = Literal["chat", "generate", "embed", "embeddings"]

_NOT_PASSED = ("truncate", "shift", "_debug_render_only")
"""Ollama's own fields that have no part in a translation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAICall:
    """A call ready for an OpenAI-compatible server: POST `body` to `path` (below its base address).

    `answered` is set, and `path` and `body` are empty, when no model need be asked: the caller only loads or unloads a
    model, or embeds nothing; `answer_unasked` then has the answer. The rest is what `answer_to_ollama` must know.
    """

    kind: Kind
    path: str
    body: bytes
    model: str
    stream: bool = False
    answered: Literal["load", "unload"] | None = None


def chat_to_openai(body: bytes) -> OpenAICall:
    """``/api/chat`` as ``/v1/chat/completions``. Raises `MalformedBody`, and `InvalidInput` with every fault."""
    request, written = read_request(body, ChatRequest)
    if not request.messages:
        return _unasked("chat", request)
    call = _answering(request, written) | {"messages": messages_to_openai(request.messages)}
    if request.tools:
        call["tools"] = written["tools"]
    if request.logprobs:
        call |= {"logprobs": True, "top_logprobs": request.top_logprobs or 0}
    return _call("chat", "chat/completions", request, call)


def generate_to_openai(body: bytes) -> OpenAICall:
    """``/api/generate`` as a chat of one turn, or as ``/v1/completions`` where it is `raw` or has a `suffix`.

    Raises `MalformedBody`, and `InvalidInput` with every fault.
    """
    request, written = read_request(body, GenerateRequest)
    if not request.prompt and not request.images:
        return _unasked("generate", request)
    faults = _refuse_generate(request)
    if faults:
        raise InvalidInput.of(*faults)
    call = _answering(request, written)
    if request.raw or request.suffix:
        call["prompt"] = request.prompt or ""
        if request.suffix:
            call["suffix"] = request.suffix
        if request.logprobs:
            call["logprobs"] = request.top_logprobs or 0
        return _call("generate", "completions", request, call)
    call["messages"] = [{"role": "system", "content": request.system}] if request.system else []
    content: Any = request.prompt or ""
    if request.images:
        content = [{"type": "text", "text": content}, *picture_parts(request.images, "images")]
    call["messages"].append({"role": "user", "content": content})
    if request.logprobs:
        call |= {"logprobs": True, "top_logprobs": request.top_logprobs or 0}
    return _call("generate", "chat/completions", request, call)


def embed_to_openai(body: bytes) -> OpenAICall:
    """``/api/embed`` as ``/v1/embeddings``. Raises `MalformedBody`, and `InvalidInput` with every fault."""
    request, _ = read_request(body, EmbedRequest)
    if not request.input:
        return _unasked("embed", request)
    call: dict[str, Any] = {"model": request.model, "input": request.input, "encoding_format": "float"}
    if request.dimensions is not None:
        call["dimensions"] = request.dimensions
    return OpenAICall(kind="embed", path="embeddings", body=msgspec.json.encode(call), model=request.model)


def embeddings_to_openai(body: bytes) -> OpenAICall:
    """The older ``/api/embeddings`` as ``/v1/embeddings``. Raises as `embed_to_openai` does."""
    request, _ = read_request(body, EmbeddingsRequest)
    if not request.prompt:
        return _unasked("embeddings", request)
    call = {"model": request.model, "input": request.prompt, "encoding_format": "float"}
    return OpenAICall(kind="embeddings", path="embeddings", body=msgspec.json.encode(call), model=request.model)


def _call(kind: Kind, path: str, request: ChatRequest | GenerateRequest, call: dict[str, Any]) -> OpenAICall:
    stream = call["stream"]
    return OpenAICall(kind=kind, path=path, body=msgspec.json.encode(call), model=request.model, stream=stream)


def _answering(request: ChatRequest | GenerateRequest, written: dict[str, msgspec.Raw]) -> dict[str, Any]:
    """What chat and generate have in common."""
    known = {*request.__struct_encode_fields__, *_NOT_PASSED}
    call: dict[str, Any] = {name: value for name, value in written.items() if name not in known}
    call |= {"model": request.model, "stream": request.stream is not False, **sampling_of(request.options)}
    if call["stream"]:
        call["stream_options"] = {"include_usage": True}
    if wanted := _response_format(request.format):
        call["response_format"] = wanted
    if isinstance(request.think, bool):
        call["chat_template_kwargs"] = {"enable_thinking": request.think}
    elif request.think:
        call["reasoning_effort"] = request.think
    return call


def _response_format(wanted: str | dict[str, Any] | None) -> dict[str, Any] | None:
    if isinstance(wanted, dict):
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted}}
    if not wanted:
        return None
    if wanted == "json":
        return {"type": "json_object"}
    raise InvalidInput.of(Fault("format", f'"{wanted[:80]}" is no format', 'send "json" or a JSON schema'))


def _refuse_generate(request: GenerateRequest) -> list[Fault]:
    if request.raw and (request.template or request.system or request.context):
        return [Fault("raw", "raw mode does not support template, system, or context", "leave them out")]
    faults = []
    if request.template:
        faults.append(Fault("template", "this backend keeps its own template", "leave it out, or send raw: true"))
    if request.context:
        faults.append(Fault("context", "this backend keeps no conversation", "send /api/chat with messages"))
    if request.raw and request.images:
        faults.append(Fault("images", "raw prompts hold no pictures here", "leave raw out"))
    return faults


def _unasked(kind: Kind, request: ChatRequest | GenerateRequest | EmbedRequest | EmbeddingsRequest) -> OpenAICall:
    """The answer to a call that only loads a model, or with a `keep_alive` of 0 unloads it."""
    unloads = request.keep_alive in (0, "0", "0s", "0m", "0h") and request.keep_alive is not False
    return OpenAICall(kind=kind, path="", body=b"", model=request.model, answered="unload" if unloads else "load")
