"""What an Ollama server answers, said in OpenAI's dialect.

    lines of /api/chat or /api/generate:
        first line  -> the chunk that names the role (chat)
        each line   -> a chunk with its text, reasoning and tool calls
        done: true  -> the chunk with the finish reason, the usage where it was asked for, [DONE]
        error       -> `BackendFailed`, which the door tells in its own words

Reasoning goes into ``reasoning_content``, the name that most clients know. A tool call arrives and is sent whole.
"""

from hashlib import blake2s
from typing import Any, Protocol

import msgspec

from sluicegate.backends.dialects.bodies import read_answer
from sluicegate.backends.dialects.embeddings import embeddings_from_ollama
from sluicegate.backends.dialects.events import DONE
from sluicegate.backends.dialects.failures import raise_told
from sluicegate.backends.dialects.lines import Lines
from sluicegate.backends.dialects.logprobs import chat_logprobs, text_logprobs
from sluicegate.backends.dialects.ollama import Answer, AnsweredCall, AnsweredMessage
from sluicegate.backends.dialects.to_ollama import OllamaCall
from sluicegate.backends.dialects.translation import StreamTranslation, Translation, WholeTranslation
from sluicegate.domain.clock import Clock
from sluicegate.errors import BackendFailed


def answer_to_openai(call: OllamaCall, *, answer_id: str, clock: Clock) -> Translation:
    """The translation for the answer, of status 200, to `call`.

    `answer_id` is the ``id`` that the caller sees (``chatcmpl-…``, ``cmpl-…``); ids of tool calls are derived from it.
    """
    if call.kind == "embeddings":
        return WholeTranslation(lambda body: embeddings_from_ollama(body, model=call.model, as_base64=call.as_base64))
    form = _ChatForm(answer_id) if call.kind == "chat" else _TextForm()
    head = {"id": answer_id, "object": form.whole, "created": int(clock.now()), "model": call.model}
    if call.stream:
        return StreamTranslation(Lines(), _Chunks(form, head, include_usage=call.include_usage))
    return WholeTranslation(lambda body: _whole(body, form, head))


class _Form(Protocol):
    """Chat or plain text: where an answer's parts stand in a choice."""

    whole: str
    chunk: str

    def opening(self) -> dict[str, Any] | None:
        """The first chunk's choice, where the dialect has one."""
        ...

    def part(self, line: Answer) -> dict[str, Any] | None:
        """The choice that says what a line adds; None when it adds nothing."""
        ...

    def closing(self, line: Answer) -> dict[str, Any]:
        """The last chunk's choice."""
        ...

    def choice(self, answer: Answer) -> dict[str, Any]:
        """The choice of a whole answer."""
        ...


class _ChatForm:
    whole = "chat.completion"
    chunk = "chat.completion.chunk"

    def __init__(self, answer_id: str) -> None:
        self._answer_id = answer_id
        self._calls = 0

    def opening(self) -> dict[str, Any] | None:
        return {"delta": {"role": "assistant", "content": ""}, "finish_reason": None}

    def part(self, line: Answer) -> dict[str, Any] | None:
        message = line.message or AnsweredMessage()
        delta: dict[str, Any] = {}
        if message.thinking:
            delta["reasoning_content"] = message.thinking
        if message.content:
            delta["content"] = message.content
        if message.tool_calls:
            delta["tool_calls"] = [self._call(call, is_piece=True) for call in message.tool_calls]
        if not delta:
            return None
        logprobs = {"logprobs": told} if (told := chat_logprobs(line.logprobs)) else {}
        return {"delta": delta, **logprobs, "finish_reason": None}

    def closing(self, line: Answer) -> dict[str, Any]:
        return {"delta": {}, "finish_reason": self._reason(line)}

    def choice(self, answer: Answer) -> dict[str, Any]:
        told = answer.message or AnsweredMessage()
        message: dict[str, Any] = {"role": "assistant", "content": told.content or ""}
        if told.thinking:
            message["reasoning_content"] = told.thinking
        if told.tool_calls:
            message["content"] = told.content or None
            message["tool_calls"] = [self._call(call, is_piece=False) for call in told.tool_calls]
        return {"message": message, "logprobs": chat_logprobs(answer.logprobs), "finish_reason": self._reason(answer)}

    def _reason(self, line: Answer) -> str:
        return "tool_calls" if self._calls else _finish_reason(line)

    def _call(self, call: AnsweredCall, *, is_piece: bool) -> dict[str, Any]:
        number = self._calls
        self._calls += 1
        made = blake2s(f"{self._answer_id}/{number}".encode(), digest_size=12).hexdigest()
        function = {"name": call.function.name, "arguments": _arguments(call)}
        whole = {"id": call.id or f"call_{made}", "type": "function", "function": function}
        return {"index": number, **whole} if is_piece else whole


class _TextForm:
    whole = "text_completion"
    chunk = "text_completion"

    def __init__(self) -> None:
        self._length = 0

    def opening(self) -> dict[str, Any] | None:
        return None

    def part(self, line: Answer) -> dict[str, Any] | None:
        if not line.response:
            return None
        logprobs = text_logprobs(line.logprobs, self._length)
        self._length += len(line.response)
        return {"text": line.response, "logprobs": logprobs, "finish_reason": None}

    def closing(self, line: Answer) -> dict[str, Any]:
        return {"text": "", "logprobs": None, "finish_reason": _finish_reason(line)}

    def choice(self, answer: Answer) -> dict[str, Any]:
        logprobs = text_logprobs(answer.logprobs)
        return {"text": answer.response or "", "logprobs": logprobs, "finish_reason": _finish_reason(answer)}


class _Chunks:
    """Renders lines as chunks; fulfils `Renderer`."""

    content_type = "text/event-stream"

    def __init__(self, form: _Form, head: dict[str, Any], *, include_usage: bool) -> None:
        self.is_over = False
        self._form = form
        # The part that all chunks share is encoded once.
        self._begin = b"data: " + msgspec.json.encode({**head, "object": form.chunk})[:-1] + b',"choices":['
        self._include_usage = include_usage
        self._is_open = False

    def take(self, payload: bytes) -> bytes:
        line = read_answer(payload, Answer, "Ollama")
        raise_told(line.error)
        made = []
        if not self._is_open:
            self._is_open = True
            made.append(self._chunk(self._form.opening()))
        made.append(self._chunk(self._form.part(line)))
        if line.done:
            self.is_over = True
            made.append(self._chunk(self._form.closing(line)))
            if self._include_usage:
                made.append(self._begin + b'],"usage":' + msgspec.json.encode(_usage(line)) + b"}\n\n")
            made.append(b"data: " + DONE + b"\n\n")
        return b"".join(made)

    def end(self) -> bytes:
        raise _incomplete()

    def _chunk(self, choice: dict[str, Any] | None) -> bytes:
        if choice is None:
            return b""
        return self._begin + msgspec.json.encode({"index": 0, **choice}) + b"]}\n\n"


def _whole(body: bytes, form: _Form, head: dict[str, Any]) -> bytes:
    answer = read_answer(body, Answer, "Ollama")
    raise_told(answer.error)
    if not answer.done:
        raise _incomplete()
    return msgspec.json.encode({**head, "choices": [{"index": 0, **form.choice(answer)}], "usage": _usage(answer)})


def _finish_reason(line: Answer) -> str:
    return "length" if line.done_reason == "length" else "stop"


def _usage(line: Answer) -> dict[str, Any]:
    asked, made = line.prompt_eval_count or 0, line.eval_count or 0
    usage: dict[str, Any] = {"prompt_tokens": asked, "completion_tokens": made, "total_tokens": asked + made}
    if line.prompt_eval_cached_count is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": line.prompt_eval_cached_count}
    return usage


def _arguments(call: AnsweredCall) -> str:
    """The arguments as JSON text, as they were written; some servers write them into a string already."""
    text = bytes(call.function.arguments).decode()
    if text.startswith("{"):
        return text
    if text.startswith('"'):
        decoded: str = msgspec.json.decode(text)
        return decoded
    return "{}"


def _incomplete() -> BackendFailed:
    return BackendFailed("the backend ended its answer before it was complete")
