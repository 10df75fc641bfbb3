"""A whole answer made of a streamed one, for servers that notice a caller's leaving only while they write.

llama.cpp's server looks for a closed connection when it sends an event; while it computes an answer that is sent
whole it may look a long time later, and its slot stays busy for nobody. So such a call is made as a stream, and its
events are put together here into the object that OpenAI's API reference describes for a call that is not streamed.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sluicegate.backends.dialects.events import DONE, Events
from sluicegate.backends.dialects.translation import StreamTranslation, Translation
from sluicegate.errors import BackendFailed

OBJECTS: Final[Mapping[str, str]] = {"chat/completions": "chat.completion", "completions": "text_completion"}
"""What each path is answered with, for the paths that have streams."""
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


def whole_answer(path: str) -> Translation:
    """The events of a path of `OBJECTS` into one piece of JSON, given when the last event has come."""
    return StreamTranslation(Events(), _Whole(OBJECTS[path]))


class _Whole:
    """Collects chunks; fulfils `Renderer`."""

    content_type = "application/json"

    def __init__(self, kind: str) -> None:
        self.is_over = False
        self._kind = kind
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def take(self, payload: bytes) -> bytes:
        """Take one event in; the last gives the object."""
        if payload == DONE:
            whole = self.end()
            self.is_over = True
            return whole
        self._add(payload)
        return b""

    def end(self) -> bytes:
        """The object, where ``[DONE]`` did not come."""
        return msgspec.json.encode(self._finished())

    def _add(self, data: bytes) -> None:
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
            choice = self._choices.setdefault(index, self._begun(index))
            if "message" in choice:
                _merge(choice["message"], part.get("delta") or {})
            else:
                choice["text"] += part.get("text") or ""
            if part.get("finish_reason") is not None:
                choice["finish_reason"] = part["finish_reason"]
            if part.get("logprobs"):
                _merge(logprobs := choice.get("logprobs") or {}, part["logprobs"])
                choice["logprobs"] = logprobs

    def _finished(self) -> dict[str, Any]:
        """The object. Raises `BackendFailed` when the stream ended before its answer did."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        if not choices or any("finish_reason" not in choice for choice in choices):
            raise BackendFailed("the backend ended its answer before it was complete")
        for choice in choices:
            calls = choice.get("message", {}).get("tool_calls")
            if calls is not None:
                choice["message"]["tool_calls"] = [_without_index(call) for call in calls]
        return {**self._head, "object": self._kind, "choices": choices}

    def _begun(self, index: int) -> dict[str, Any]:
        if self._kind == "text_completion":
            return {"text": "", "index": index, "logprobs": None}
        return {"index": index, "message": {"role": "assistant", "content": ""}}


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
