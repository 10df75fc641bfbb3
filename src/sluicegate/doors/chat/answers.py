"""A backend's answer in the words of the simple chat API: events, or one JSON object."""

from typing import Any

import msgspec

from sluicegate.backends.dialects.events import DONE, Events
from sluicegate.backends.dialects.translation import StreamTranslation, Translation, WholeTranslation
from sluicegate.domain.clock import Clock
from sluicegate.domain.ids import RequestId
from sluicegate.doors.lane.wordings import EventWording
from sluicegate.errors import BackendFailed, SluicegateError


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


class EventsForm:
    """The events of one call. Its duration is counted from when this is made."""

    def __init__(self, model: str, request_id: RequestId, clock: Clock) -> None:
        self.model = model
        self.request_id = request_id
        self._clock = clock
        self._started = clock.monotonic()
        self._id = request_id.encode()

    def chunk(self, content: str) -> bytes:
        """Some text."""
        return self.event(b"chat.completion.chunk", {"model": self.model, "content": content, "done": False})

    def done(self, tokens: int) -> bytes:
        """The end of a whole answer."""
        nanoseconds = int((self._clock.monotonic() - self._started) * 1e9)
        totals = {"model": self.model, "totalDuration": nanoseconds, "evalCount": tokens, "done": True}
        return self.event(b"chat.completion.done", totals)

    def error(self, error: SluicegateError) -> bytes:
        """The end of an answer that failed."""
        return self.event(b"error", {"code": error.code.upper(), "message": error.message})

    def event(self, name: bytes, data: dict[str, Any]) -> bytes:
        """One event."""
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (self._id, name, msgspec.json.encode(data))


class SimpleWording(EventWording):
    """What the lane itself says in a stream of this dialect."""

    def __init__(self, form: EventsForm) -> None:
        self._form = form

    def broken(self, error: SluicegateError) -> bytes:
        """See `Wording.broken`."""
        return self._form.error(error)


def answer_to_simple(form: EventsForm, *, is_stream: bool) -> Translation:
    """The translation of an OpenAI-compatible backend's answer."""
    if is_stream:
        return StreamTranslation(Events(), _EventRenderer(form))
    return WholeTranslation(lambda body: _whole(body, form))


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


_decode_completion = msgspec.json.Decoder(_Completion).decode


def _decode(data: bytes) -> _Completion:
    try:
        chunk = _decode_completion(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BackendFailed("the backend sent an event that is no JSON of OpenAI's dialect") from None
    if chunk.error is not None:
        raise BackendFailed(f"the backend reported an error: {str(chunk.error)[:500]}")
    return chunk


class _EventRenderer:
    """Each chunk of text as an event, then the totals. Fulfils `Renderer`."""

    content_type = EventWording.content_type

    def __init__(self, form: EventsForm) -> None:
        self.is_over = False
        self._form = form
        self._usage: _UsageWords | None = None
        self._counted = 0
        self._is_whole = False

    def take(self, payload: bytes) -> bytes:
        """See `Renderer.take`."""
        if payload == DONE:
            self._is_whole = True
            return self.end()
        chunk = _decode(payload)
        self._usage = chunk.usage or self._usage
        self._is_whole = self._is_whole or any(choice.finish_reason for choice in chunk.choices)
        content = "".join([choice.delta.content or "" for choice in chunk.choices])
        if not content:
            return b""
        self._counted += 1
        return self._form.chunk(content)

    def end(self) -> bytes:
        """See `Renderer.end`."""
        if not self._is_whole:
            raise BackendFailed("the backend ended its answer before it was complete")
        self.is_over = True
        return self._form.done(self._usage.completion_tokens if self._usage else self._counted)


def _whole(body: bytes, form: EventsForm) -> bytes:
    completion = _decode(body)
    usage = completion.usage or _UsageWords()
    answer = SimpleChatAnswer(
        request_id=form.request_id,
        model=form.model,
        content="".join(choice.message.content or "" for choice in completion.choices[:1]),
        usage=Usage(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens),
    )
    return msgspec.json.encode(answer)
