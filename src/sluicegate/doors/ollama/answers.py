"""Streams of Ollama's dialect: what the lane itself says in one, and what is looked at in one that is relayed."""

from typing import Any

import msgspec

from sluicegate.backends.dialects.failures import ollama_broken_stream
from sluicegate.backends.dialects.lines import MOST_LINE_BYTES
from sluicegate.doors.lane.wordings import LineWording
from sluicegate.errors import BackendFailed, SluicegateError


class OllamaWording(LineWording):
    """A line that tells an error, after which the stream ends without ``"done": true``."""

    def broken(self, error: SluicegateError) -> bytes:
        """See `Wording.broken`."""
        return ollama_broken_stream(error.message)


class _LastLine(msgspec.Struct):
    done: bool = False
    error: Any = None


class WholeLines:
    """Hands on an Ollama server's stream untouched, whole lines at a time. Fulfils `Translation`.

    So whatever the lane puts between two pieces stands between two lines. Nearly every piece ends where a line does,
    and is passed on as it is; only the last line of all is read.
    """

    content_type = LineWording.content_type

    def __init__(self, most_bytes: int = MOST_LINE_BYTES) -> None:
        self._most_bytes = most_bytes
        self._rest = bytearray()
        self._last = b""

    def feed(self, data: bytes) -> bytes:
        """The lines that `data` completes. Raises `BackendFailed` for one that is too long."""
        end = data.rfind(b"\n") + 1
        if end == len(data) and not self._rest:
            self._keep_last(data)
            return data
        whole = b""
        if end:
            whole = bytes(self._rest + data[:end])
            self._rest.clear()
            self._keep_last(whole)
        self._rest += data[end:]
        if len(self._rest) > self._most_bytes:
            raise BackendFailed(f"the backend sent a line of over {self._most_bytes} bytes; nothing so long is read")
        return whole

    def finish(self) -> bytes:
        """The last line, where its end is missing. Raises `BackendFailed` when that does not end the answer."""
        rest = bytes(self._rest)
        last = (rest.strip() or self._last.rstrip()).rpartition(b"\n")[2]
        try:
            told = msgspec.json.decode(last, type=_LastLine)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            told = _LastLine()
        if not told.done and told.error is None:
            raise BackendFailed("the backend ended its answer before it was complete")
        return rest

    def _keep_last(self, lines: bytes) -> None:
        if lines and not lines.isspace():
            self._last = lines
