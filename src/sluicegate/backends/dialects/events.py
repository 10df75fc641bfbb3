"""Server-sent events: cutting them out of a stream, and writing them.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, 9.2.6 (names, ids and retry times mean nothing
in OpenAI's dialect and are passed over).
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from sluicegate.backends.dialects.lines import MOST_LINE_BYTES, Lines
from sluicegate.errors import BackendFailed

DONE = b"[DONE]"
"""The payload that ends a stream of OpenAI's dialect."""


class Events:
    """The data of each event, its lines joined by LF.

    Kinder than the standard in two ways: an event that the end of the body cuts off before its blank line counts, and
    ``data: [DONE]`` is an event of its own even where the blank line before it is missing.
    """

    def __init__(self, most_bytes: int = MOST_LINE_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lines = Lines(most_bytes, keep_empty=True)
        self._data = bytearray()
        self._has_data = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The events that `data` completes. Raises `BackendFailed` where one is too large."""
        for line in self._lines.feed(data):
            if event := self._take(line):
                yield event

    def finish(self) -> Iterator[bytes]:
        """The last event, where its blank line is missing."""
        for line in self._lines.finish():
            if event := self._take(line):
                yield event
        if event := self._dispatch():
            yield event

    def _take(self, line: bytes) -> bytes:
        """The event that this line completes, or nothing."""
        if not line:
            return self._dispatch()
        event = b""
        if line.startswith(b"data:"):
            value = line[5:]
            if self._has_data and value.strip() == DONE:
                event = self._dispatch()
            self._append(value)
        elif line.startswith(b"error:"):
            # llama.cpp's server told errors under this field's name until it followed OpenAI's form.
            self._append(b'{"error":' + line[6:] + b"}")
        return event

    def _append(self, value: bytes) -> None:
        if self._has_data:
            self._data += b"\n"
        self._data += value.removeprefix(b" ")
        self._has_data = True
        if len(self._data) > self._most_bytes:
            raise BackendFailed(f"the backend sent an event of over {self._most_bytes} bytes; nothing so large is read")

    def _dispatch(self) -> bytes:
        event = bytes(self._data).strip()
        self._data.clear()
        self._has_data = False
        return event


def event(data: Any) -> bytes:
    """One event that holds a value as JSON."""
    return b"data: " + msgspec.json.encode(data) + b"\n\n"
