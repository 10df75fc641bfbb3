"""Requests of OpenAI's dialect, said in Ollama's.

What Ollama cannot do at all is refused (`n` over 1, pictures to fetch, token arrays); what it does not know and can be
left out is left out (`user`, `logit_bias`, `store`, …). A `tool_choice` that names one tool leaves only that tool;
"required" cannot be enforced and is as "auto". What the caller leaves open is left open: the model's own settings hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from sluicegate.backends.dialects.bodies import read_request
from sluicegate.backends.dialects.messages_to_ollama import messages_to_ollama
from sluicegate.backends.dialects.openai import ChatRequest, CompletionRequest, EmbeddingsRequest, ResponseFormat, Tool
from sluicegate.backends.dialects.sampling import options_of
from sluicegate.errors import Fault, InvalidInput

_THINKING_LEVELS: Final[Mapping[str, bool | str]] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
}
_KEPT = ("keep_alive", "truncate", "shift")
"""Ollama's own fields, passed on when an OpenAI caller sends them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaCall:
    """A call ready for an Ollama server: POST `body` to `path` (below the server's root).

    The rest is what `answer_to_openai` must know of the request: the `model` as the caller named it, whether the
    caller wants a stream and its usage, and embeddings as base64.
    """

    kind: Literal["chat", "completion", "embeddings"]
    path: str
    body: bytes
    model: str
    stream: bool = False
    include_usage: bool = False
    as_base64: bool = False


def chat_to_ollama(body: bytes) -> OllamaCall:
    """``/v1/chat/completions`` as ``/api/chat``. Raises `MalformedBody`, and `InvalidInput` with every fault."""
    request, written = read_request(body, ChatRequest)
    faults = _refuse_several(request.n, "n")
    response_format, format_faults = _format(request.response_format)
    think, think_faults = _think(request)
    faults += format_faults + think_faults
    if faults:
        raise InvalidInput.of(*faults)
    call: dict[str, Any] = {
        "model": request.model,
        "messages": messages_to_ollama(request.messages),
        "stream": bool(request.stream),
    }
    if request.tools and request.tool_choice != "none":
        call["tools"] = _tools(request, written["tools"])
    if response_format is not None:
        call["format"] = response_format
    if think is not None:
        call["think"] = think
    if request.logprobs:
        call |= {"logprobs": True, "top_logprobs": request.top_logprobs or 0}
    return OllamaCall(
        kind="chat",
        path="api/chat",
        body=_encode(call, written, options_of(request, request.max_completion_tokens or request.max_tokens)),
        model=request.model,
        stream=bool(request.stream),
        include_usage=_wants_usage(request),
    )


def completion_to_ollama(body: bytes) -> OllamaCall:
    """``/v1/completions`` as ``/api/generate``. Raises `MalformedBody`, and `InvalidInput` with every fault.

    As in Ollama's own ``/v1/completions`` the model's template is put around the prompt; ``"raw": true`` keeps it away.
    """
    request, written = read_request(body, CompletionRequest)
    faults = _refuse_several(request.n, "n") + _refuse_several(request.best_of, "best_of")
    if request.echo:
        faults.append(Fault("echo", "an Ollama backend does not repeat the prompt", "leave it out"))
    prompt = request.prompt if isinstance(request.prompt, str) else None
    if prompt is None and len(request.prompt) == 1 and isinstance(request.prompt[0], str):
        prompt = request.prompt[0]
    if not prompt:
        faults.append(Fault("prompt", "an Ollama backend takes one text", "send one call for each prompt, as text"))
    if faults:
        raise InvalidInput.of(*faults)
    call: dict[str, Any] = {"model": request.model, "prompt": prompt, "stream": bool(request.stream)}
    if request.suffix:
        call["suffix"] = request.suffix
    if request.logprobs is not None:
        call |= {"logprobs": True, "top_logprobs": request.logprobs}
    if "raw" in written:
        call["raw"] = written["raw"]
    return OllamaCall(
        kind="completion",
        path="api/generate",
        body=_encode(call, written, options_of(request, request.max_tokens)),
        model=request.model,
        stream=bool(request.stream),
        include_usage=_wants_usage(request),
    )


def embeddings_to_ollama(body: bytes) -> OllamaCall:
    """``/v1/embeddings`` as ``/api/embed``. Raises `MalformedBody`, and `InvalidInput` with every fault."""
    request, written = read_request(body, EmbeddingsRequest)
    if not request.input or not (isinstance(request.input, str) or all(isinstance(one, str) for one in request.input)):
        mend = "send text, or a list of texts"
        raise InvalidInput.of(Fault("input", "an Ollama backend embeds text, not tokens and not nothing", mend))
    call: dict[str, Any] = {"model": request.model, "input": request.input}
    if request.dimensions is not None:
        call["dimensions"] = request.dimensions
    if "options" in written:
        call["options"] = written["options"]
    return OllamaCall(
        kind="embeddings",
        path="api/embed",
        body=_encode(call, written, {}),
        model=request.model,
        as_base64=request.encoding_format == "base64",
    )


def _encode(call: dict[str, Any], written: dict[str, msgspec.Raw], options: dict[str, Any]) -> bytes:
    if options:
        call["options"] = options
    return msgspec.json.encode(call | {name: written[name] for name in _KEPT if name in written})


def _wants_usage(request: ChatRequest | CompletionRequest) -> bool:
    return request.stream_options is not None and bool(request.stream_options.include_usage)


def _refuse_several(count: int | None, field: str) -> list[Fault]:
    if count is None or count == 1:
        return []
    return [Fault(field, f"an Ollama backend answers once, not {count} times", f"send {count} calls")]


def _format(wanted: ResponseFormat | None) -> tuple[str | dict[str, Any] | None, list[Fault]]:
    if wanted is None or wanted.type == "text":
        return None, []
    if wanted.type == "json_object":
        return "json", []
    if wanted.json_schema is None:
        mend = 'send {"name": "answer", "schema": {…}}'
        return None, [Fault("response_format.json_schema", "required for this type, but absent", mend)]
    return wanted.json_schema.schema, []


def _think(request: ChatRequest) -> tuple[bool | str | None, list[Fault]]:
    """Ollama's switch for thinking, from any of the ways in which callers ask for it."""
    if request.think is not None:
        return request.think, []
    effort = request.reasoning.effort if request.reasoning is not None else None
    field = "reasoning_effort" if effort is None else "reasoning.effort"
    effort = effort or request.reasoning_effort
    if effort is not None:
        if effort in _THINKING_LEVELS:
            return _THINKING_LEVELS[effort], []
        return None, [Fault(field, f'"{effort[:80]}" is no effort', f"allowed: {', '.join(_THINKING_LEVELS)}")]
    switch = (request.chat_template_kwargs or {}).get("enable_thinking")
    return (switch if isinstance(switch, bool) else None), []


def _tools(request: ChatRequest, written: msgspec.Raw) -> Any:
    """The tools as they were written, or the one that must be used."""
    if not isinstance(request.tool_choice, Tool):
        return written
    wanted = request.tool_choice.function.name
    tools: list[dict[str, Any]] = msgspec.json.decode(written)
    chosen = [tool for tool in tools if tool["function"]["name"] == wanted]
    if not chosen:
        raise InvalidInput.of(Fault("tool_choice.function.name", f'"{wanted}" is not among the tools', None))
    return chosen
