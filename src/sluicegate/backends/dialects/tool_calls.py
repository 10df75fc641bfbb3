"""Putting the pieces of tool calls together, which OpenAI's dialect streams and Ollama's does not."""

from collections.abc import Iterable
from io import StringIO
from typing import Any

import msgspec

from sluicegate.backends.dialects.lines import MOST_LINE_BYTES
from sluicegate.backends.dialects.openai import ToolCallDelta
from sluicegate.errors import BackendFailed

_MOST_CALLS = 1_024


class _Gathered:
    """One call so far."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments = StringIO()


class GatheredCalls:
    """The calls of one answer, by their `index`; a piece without one belongs to the call begun last.

    Some servers number every call 0, or none: a name that comes with another id begins another call.
    """

    def __init__(self) -> None:
        self._calls: list[_Gathered] = []
        self._by_index: dict[int, _Gathered] = {}
        self._size = 0

    def add(self, pieces: Iterable[ToolCallDelta]) -> None:
        """Take pieces in. Raises `BackendFailed` when the calls grow too many or too large."""
        for piece in pieces:
            call = self._calls[-1] if piece.index is None and self._calls else self._by_index.get(piece.index or 0)
            if call is None or _is_other(call, piece):
                call = self._begin()
            if piece.index is not None:
                self._by_index[piece.index] = call
            self._merge(call, piece)

    def add_whole(self, calls: Iterable[ToolCallDelta]) -> None:
        """Take whole calls in; each is one of its own."""
        for call in calls:
            self._merge(self._begin(), call)

    def finished(self, *, is_cut: bool) -> list[dict[str, Any]]:
        """The calls in Ollama's form. Of an answer that its limit cut, a call with broken arguments is left out.

        Raises `BackendFailed` for a call whose arguments are no JSON object.
        """
        made: list[dict[str, Any]] = []
        for call in self._calls:
            arguments = _object(call.arguments.getvalue())
            if arguments is not None and call.name:
                function = {"index": len(made), "name": call.name, "arguments": arguments}
                made.append(({"id": call.id} if call.id else {}) | {"function": function})
            elif not is_cut:
                raise BackendFailed(f'the backend called the tool "{call.name[:80]}" with arguments that are no object')
        return made

    def _begin(self) -> _Gathered:
        if len(self._calls) == _MOST_CALLS:
            raise BackendFailed(f"the backend called over {_MOST_CALLS} tools at once; nothing so long is read")
        self._calls.append(_Gathered())
        return self._calls[-1]

    def _merge(self, call: _Gathered, piece: ToolCallDelta) -> None:
        call.id = piece.id or call.id
        if piece.function is not None:
            call.name = call.name or piece.function.name or ""
            if piece.function.arguments:
                call.arguments.write(piece.function.arguments)
                self._size += len(piece.function.arguments)
        if self._size > MOST_LINE_BYTES:
            raise BackendFailed(
                f"the backend called tools with over {MOST_LINE_BYTES} letters; nothing so long is read"
            )


def _is_other(call: _Gathered, piece: ToolCallDelta) -> bool:
    if piece.function is None or not piece.function.name:
        return False
    if call.id and piece.id:
        return piece.id != call.id
    return piece.index is None and bool(call.name)


def _object(text: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
