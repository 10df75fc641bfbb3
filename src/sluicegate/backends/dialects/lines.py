"""Cutting a byte stream into lines, in linear time whatever the pieces."""

from collections.abc import Iterator

from sluicegate.errors import BackendFailed

MOST_LINE_BYTES = 16 * 2**20
"""Most bytes of one line or one event."""


class Lines:
    """Lines that end in LF or CRLF, without their ends; empty ones are left out unless `keep_empty`.

    A lone CR ends no line: no server of either dialect writes one. A byte order mark at the very start is dropped.
    """

    def __init__(self, most_bytes: int = MOST_LINE_BYTES, *, keep_empty: bool = False) -> None:
        self._most_bytes = most_bytes
        self._keep_empty = keep_empty
        self._rest = bytearray()
        self._is_first = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that `data` completes. Raises `BackendFailed` where one is too long."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            line = data[start:end]
            start = end + 1
            if self._rest:
                self._rest += line
                line = bytes(self._rest)
                self._rest.clear()
            line = self._checked(line)
            if line or self._keep_empty:
                yield line
        self._rest += data[start:]
        self._check(len(self._rest))

    def finish(self) -> Iterator[bytes]:
        """The last line, where its end is missing."""
        line = self._checked(bytes(self._rest))
        self._rest.clear()
        if line:
            yield line

    def _checked(self, line: bytes) -> bytes:
        self._check(len(line))
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        return line.removesuffix(b"\r")

    def _check(self, length: int) -> None:
        if length > self._most_bytes:
            raise BackendFailed(f"the backend sent a line of over {self._most_bytes} bytes; nothing so long is read")
