"""A whole answer made of a streamed one, for servers that notice a caller's leaving only while they write.

llama.cpp's server looks for a closed connection when it sends an event; while it computes an answer that is sent
whole it may look a long time later, and its slot stays busy for nobody. So such a call is made as a stream, and its
events are put together here into the object that OpenAI's API reference describes for a call that is not streamed.
"""

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from sluicegate.backends.backend import UpstreamAnswer
from sluicegate.backends.events import EventReader
from sluicegate.errors import BackendFailed

_KEPT = ("id", "created", "model", "system_fingerprint", "usage", "timings", "service_tier")


def as_stream(body: bytes) -> bytes | None:
    """The same call as a stream with usage; None when it is one already, or is no JSON object to judge."""
    try:
        call = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if call.get("stream"):
        return None
    return msgspec.json.encode({**call, "stream": True, "stream_options": {"include_usage": True}})


class WholeAnswer:
    """The answer to a call that was made as a stream; fulfils `UpstreamAnswer` with one piece of JSON.

    An error answer of the server is passed on as it is.
    """

    def __init__(self, answer: UpstreamAnswer) -> None:
        self.status = answer.status
        self.retry_after = answer.retry_after
        self._is_stream = answer.content_type.startswith("text/event-stream")
        self.content_type = "application/json" if self._is_stream else answer.content_type
        self._answer = answer

    async def chunks(self) -> AsyncIterator[bytes]:
        """The whole object at once, when the last event has come. Raises as the stream does."""
        if not self._is_stream:
            async for chunk in self._answer.chunks():
                yield chunk
            return
        whole = _Whole()
        events = EventReader(self._answer.chunks())
        async for event in events:
            whole.add(event)
        await events.finish()
        yield msgspec.json.encode(whole.finished())

    async def close(self) -> None:
        """See `UpstreamAnswer.close`."""
        await self._answer.close()


class _Whole:
    """Collects chunks."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def add(self, data: bytes) -> None:
        """Take one event in. Raises `BackendFailed` when it is an error or no chunk."""
        try:
            chunk = msgspec.json.decode(data, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BackendFailed("the backend sent an event that is no JSON object") from None
        if "error" in chunk:
            raise BackendFailed(f"the backend reported an error: {str(chunk['error'])[:500]}")
        self._head.update({name: chunk[name] for name in _KEPT if chunk.get(name) is not None})
        for part in chunk.get("choices", ()):
            index = part.get("index", 0)
            choice = self._choices.setdefault(index, {"index": index, "message": {"role": "assistant", "content": ""}})
            _merge(choice["message"], part.get("delta") or {})
            if part.get("finish_reason") is not None:
                choice["finish_reason"] = part["finish_reason"]
            if part.get("logprobs"):
                _merge(choice.setdefault("logprobs", {}), part["logprobs"])

    def finished(self) -> dict[str, Any]:
        """The object. Raises `BackendFailed` when the stream ended before its answer did."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        if not choices or any("finish_reason" not in choice for choice in choices):
            raise BackendFailed("the backend ended its answer before it was complete")
        for choice in choices:
            calls = choice["message"].get("tool_calls")
            if calls is not None:
                choice["message"]["tool_calls"] = [_without_index(call) for call in calls]
        return {**self._head, "object": "chat.completion", "choices": choices}


def _merge(whole: dict[str, Any], part: dict[str, Any]) -> None:
    """Add a delta: texts are joined, tool calls matched by their index, other lists extended, the rest replaced."""
    for name, value in part.items():
        before = whole.get(name)
        if value is None:
            whole.setdefault(name, None)
        elif isinstance(value, str) and isinstance(before, str) and name not in ("role", "id", "type"):
            whole[name] = before + value
        elif isinstance(value, dict) and isinstance(before, dict):
            _merge(before, value)
        elif isinstance(value, list):
            known = before if isinstance(before, list) else []
            whole[name] = known
            for item in value:
                _merge_item(known, item)
        else:
            whole[name] = value


def _merge_item(known: list[Any], item: Any) -> None:
    index = item.get("index") if isinstance(item, dict) else None
    match = next((one for one in known if index is not None and one.get("index") == index), None)
    if match is None:
        known.append(dict(item) if isinstance(item, dict) else item)
    else:
        _merge(match, item)


def _without_index(call: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in call.items() if name != "index"}
