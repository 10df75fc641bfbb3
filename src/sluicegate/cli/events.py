"""A reader of server-sent events, fed with bytes as they arrive.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from collections.abc import Iterator
from dataclasses import dataclass

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event. `last_id` is the id to resume after: this event's own, or the latest before it."""

    name: str
    data: str
    last_id: str


class EventReader:
    """Turns pieces of an event stream into events, however the bytes are cut.

    `last_id` starts from an earlier connection's and moves on only with whole events: one that was cut off
    comes again after a resume. `retry_seconds` is what the server last asked for.
    """

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry_seconds: float | None = None
        self._line = bytearray()
        self._after_cr = False
        self._first = True
        self._name = ""
        self._id = last_id
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[ServerEvent]:
        """The events that this piece completes."""
        for line in self._lines(piece):
            if line:
                self._take(line)
                continue
            event = self._finish()
            if event is not None:
                yield event

    def _lines(self, piece: bytes) -> Iterator[str]:
        """Complete lines; CR LF, LF and CR each end one, also when CR and LF come in different pieces."""
        if self._after_cr and piece:
            piece = piece.removeprefix(b"\n")
            self._after_cr = False
        start = 0
        while (end := _line_end(piece, start)) >= 0:
            self._line += piece[start:end]
            start = end + 1
            if piece[end : end + 1] == b"\r":
                if start == len(piece):
                    self._after_cr = True
                elif piece[start : start + 1] == b"\n":
                    start += 1
            yield self._decode()
        self._line += piece[start:]

    def _decode(self) -> str:
        line = bytes(self._line)
        self._line.clear()
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        return line.decode("utf-8", "replace")

    def _take(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_seconds = int(value) / 1_000
            case _:
                pass  # comments and unknown fields

    def _finish(self) -> ServerEvent | None:
        name, data = self._name, self._data
        self._name, self._data = "", []
        self.last_id = self._id
        return ServerEvent(name or "message", "\n".join(data), self.last_id) if data else None


def _line_end(piece: bytes, start: int) -> int:
    """Where the first CR or LF at or after `start` stands, or -1."""
    ends = [end for end in (piece.find(b"\n", start), piece.find(b"\r", start)) if end >= 0]
    return min(ends, default=-1)
