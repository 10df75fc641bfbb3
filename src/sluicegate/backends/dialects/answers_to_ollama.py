"""What an OpenAI-compatible server answers, said in Ollama's dialect.

    events of /v1/chat/completions or /v1/completions:
        each chunk         -> a line with its text or thinking
        [DONE], or the end -> a line with the tool calls, whose pieces were kept until now, if there are any,
                              and the line with done: true, the counts and the durations
        error              -> `BackendFailed`, which the door tells as `ollama_broken_stream`

Only the first choice is looked at. Counts are the backend's, or the number of pieces of a stream where it tells none.
Durations are those that llama.cpp's server tells (``timings``), or measured from the sending of the call.
"""

from typing import Any

import msgspec

from sluicegate.backends.dialects.bodies import read_answer
from sluicegate.backends.dialects.embeddings import embeddings_from_openai
from sluicegate.backends.dialects.events import DONE, Events
from sluicegate.backends.dialects.failures import raise_told
from sluicegate.backends.dialects.logprobs import ollama_logprobs
from sluicegate.backends.dialects.ollama import timestamp
from sluicegate.backends.dialects.openai import Choice, Completion, Delta, PromptDetails, Timings, Usage
from sluicegate.backends.dialects.to_openai import OpenAICall
from sluicegate.backends.dialects.tool_calls import GatheredCalls
from sluicegate.backends.dialects.translation import StreamTranslation, Translation, WholeTranslation
from sluicegate.domain.clock import Clock
from sluicegate.errors import BackendFailed

WHOLE_TYPE = "application/json; charset=utf-8"
STREAM_TYPE = "application/x-ndjson"


def answer_to_ollama(call: OpenAICall, *, clock: Clock, started: float) -> Translation:
    """The translation for the answer, of status 200, to `call`, which was sent when `clock.monotonic` was `started`."""
    if call.kind in ("embed", "embeddings"):
        is_old = call.kind == "embeddings"
        return WholeTranslation(
            lambda body: embeddings_from_openai(
                body, model=call.model, nanoseconds=_nanoseconds(clock.monotonic() - started), is_old=is_old
            ),
            content_type=WHOLE_TYPE,
        )
    words = _Words(call, clock, started)
    if call.stream:
        return StreamTranslation(Events(), _LineRenderer(words))
    return WholeTranslation(words.whole, content_type=WHOLE_TYPE)


def answer_unasked(call: OpenAICall, *, clock: Clock) -> bytes:
    """The body of the answer, one JSON object, to a call whose `answered` is set."""
    if call.kind == "embed":
        return msgspec.json.encode({"model": call.model, "embeddings": [], "total_duration": 0, "load_duration": 0})
    if call.kind == "embeddings":
        return msgspec.json.encode({"embedding": []})
    content = {"message": {"role": "assistant", "content": ""}} if call.kind == "chat" else {"response": ""}
    said = {"model": call.model, "created_at": timestamp(clock.now()), **content}
    return msgspec.json.encode(said | {"done": True, "done_reason": call.answered or "load"})


class _Words:
    """Says a completion, or chunks of one, in the words of ``/api/chat`` or ``/api/generate``."""

    def __init__(self, call: OpenAICall, clock: Clock, started: float) -> None:
        self.finish_reason: str | None = None
        self._call = call
        self._clock = clock
        # The part that all lines share is encoded once.
        self._begin = msgspec.json.encode({"model": call.model})[:-1] + b","
        self._started = started
        self._first: float | None = None
        self._pieces = 0
        self._calls = GatheredCalls()
        self._usage = Usage()
        self._timings = Timings()

    def read(self, payload: bytes) -> Choice:
        """The first choice of a completion or chunk; an empty one where it has none. Raises `BackendFailed`."""
        told = read_answer(payload, Completion, "OpenAI")
        raise_told(told.error)
        if told.object == "error":
            raise_told(told.message or "of which it says nothing")
        self._usage = told.usage or self._usage
        self._timings = told.timings or self._timings
        for choice in told.choices or ():
            if not choice.index:
                self.finish_reason = choice.finish_reason or self.finish_reason
                return choice
        return Choice()

    def piece(self, choice: Choice) -> bytes:
        """The line for what a chunk adds; nothing when it adds nothing that can be said already."""
        delta = choice.delta or Delta()
        if delta.tool_calls:
            self._calls.add(delta.tool_calls)
        text, thinking = delta.content or choice.text or "", _thinking(delta)
        if self._first is None and (text or thinking or delta.tool_calls):
            self._first = self._clock.monotonic()
        if not text and not thinking:
            return b""
        self._pieces += 1
        logprobs = ollama_logprobs(choice.logprobs)
        return self._line(self._content(text, thinking), {"logprobs": logprobs} if logprobs else {}, done=False)

    def closing(self) -> bytes:
        """The tool calls' line, if there are any, and the last one."""
        calls = self._gathered()
        line = self._line(self._content("", "", calls), {}, done=False) if calls else b""
        return line + self._line(self._content("", ""), self._end(self._first), done=True)

    def whole(self, body: bytes) -> bytes:
        """A whole answer. Raises `BackendFailed`."""
        choice = self.read(body)
        if choice.message is None and choice.text is None:
            raise BackendFailed("the backend answered without a message")
        message = choice.message or Delta()
        self._calls.add_whole(message.tool_calls or ())
        content = self._content(message.content or choice.text or "", _thinking(message), self._gathered())
        logprobs = ollama_logprobs(choice.logprobs)
        more = {"logprobs": logprobs} if logprobs else {}
        return self._line(content, more | self._end(None), done=True).removesuffix(b"\n")

    def _gathered(self) -> list[dict[str, Any]]:
        return self._calls.finished(is_cut=self.finish_reason == "length") if self._call.kind == "chat" else []

    def _content(self, text: str, thinking: str, calls: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        thought = {"thinking": thinking} if thinking else {}
        if self._call.kind == "generate":
            return {"response": text, **thought}
        called = {"tool_calls": calls} if calls else {}
        return {"message": {"role": "assistant", "content": text, **thought, **called}}

    def _line(self, content: dict[str, Any], more: dict[str, Any], *, done: bool) -> bytes:
        said = {"created_at": timestamp(self._clock.now()), **content, "done": done, **more}
        return self._begin + msgspec.json.encode(said)[1:] + b"\n"

    def _end(self, first: float | None) -> dict[str, Any]:
        """Reason, counts and durations. Without a first piece all the time counts as making the answer."""
        now = self._clock.monotonic()
        begun = self._started if first is None else first
        reading, making = _nanoseconds(begun - self._started), _nanoseconds(now - begun)
        usage, timings = self._usage, self._timings
        if timings.prompt_ms is not None and timings.predicted_ms is not None:
            reading, making = _nanoseconds(timings.prompt_ms / 1000), _nanoseconds(timings.predicted_ms / 1000)
        details = usage.prompt_tokens_details or PromptDetails()
        counts = {
            "prompt_eval_count": _first_known(usage.prompt_tokens, timings.prompt_n),
            "prompt_eval_cached_count": details.cached_tokens,
            "eval_count": _first_known(usage.completion_tokens, timings.predicted_n, self._pieces or None),
        }
        return {
            "done_reason": "length" if self.finish_reason == "length" else "stop",
            "total_duration": _nanoseconds(now - self._started),
            "load_duration": 0,
            "prompt_eval_duration": reading,
            # Clients divide by it.
            "eval_duration": max(making, 1),
            **{name: count for name, count in counts.items() if count is not None},
        }


class _LineRenderer:
    """Renders chunks as lines; fulfils `Renderer`."""

    content_type = STREAM_TYPE

    def __init__(self, words: _Words) -> None:
        self.is_over = False
        self._words = words

    def take(self, payload: bytes) -> bytes:
        if payload == DONE:
            self.is_over = True
            return self._words.closing()
        return self._words.piece(self._words.read(payload))

    def end(self) -> bytes:
        if self._words.finish_reason is None:
            raise BackendFailed("the backend ended its answer before it was complete")
        self.is_over = True
        return self._words.closing()


def _first_known(*counts: int | None) -> int | None:
    return next((count for count in counts if count is not None), None)


def _thinking(delta: Delta) -> str:
    if delta.reasoning_content:
        return delta.reasoning_content
    return delta.reasoning if isinstance(delta.reasoning, str) else ""


def _nanoseconds(seconds: float) -> int:
    """Clamped to what a client's signed number of 64 bits holds; a backend may tell anything."""
    return int(min(max(seconds * 1e9, 0.0), 2.0**62)) if seconds == seconds else 0  # noqa: PLR0124 - not a number
