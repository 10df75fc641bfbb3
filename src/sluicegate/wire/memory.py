"""The head that came before on a connection, so that one like it need not be parsed again.

One end of a connection sends the same head time after time, but for the length of what follows:

    POST /v1/chat/completions HTTP/1.1\r\nhost: …\r\ncontent-length: 815\r\naccept: */*\r\n\r\n{"model": …
    └──────────────────────────── prefix ──────────────────────────┘└─┘└──── suffix ────┘└──── body

A head that was parsed and found sound stands for every head that differs from it in these digits alone. Parsing costs
some five times as much as finding that out.
"""

import re
from typing import Final

_REGULAR: Final = re.compile(
    rb"[!-~][^\r\n]*\r\n(?:[!-9;-~]+:[^\r\n]*\r\n)*?"
    rb"[Cc]ontent-[Ll]ength: ([0-9]{1,9})\r\n(?:[!-9;-~]+:[^\r\n]*\r\n)*\r\n"
)
"""A head that can be read in one way only: no folded lines, no line ends but CRLF."""
_REGULAR_STREAM: Final = re.compile(rb"[!-~][^\r\n]*\r\n(?:[!-9;-~]+:[^\r\n]*\r\n)*\r\n")
"""The same without a length."""
MOST_HEAD: Final = 2_048
"""Bytes; longer heads are not remembered."""
_PRICE: Final = 8
"""Learning a head costs about an eighth of this many parsings: it is paid for by so many messages."""
_MOST_CREDIT: Final = 64


class HeadMemory:
    """Remembers one head of one connection. The caller parses it, and keeps what it stands for."""

    __slots__ = ("_begin", "_credit", "_head", "_prefix", "_start", "_stream", "_suffix", "_total", "size")

    def __init__(self) -> None:
        self._credit = _PRICE
        self._prefix = b"\0"
        self._start = 1
        self._suffix = b"\n"  # stands where only CR is looked for, so that nothing matches
        self.size = 0
        """Bytes of the body of the message that was recalled last."""
        self._stream = b"\0"
        self._head = b"\0"
        """The whole head that came last, with which most messages begin that are as long as the one before."""
        self._begin = self._total = 0

    def recall(self, data: bytes, total: int) -> int:
        """Where the body begins, if `data`, of which `total` bytes have come and the first `MOST_HEAD` are given, is
        one whole message under the head that is remembered; else 0."""
        if total == self._total and data.startswith(self._head):
            if self._credit < _MOST_CREDIT:
                self._credit += 1
            return self._begin
        if not data.startswith(self._prefix):
            return 0
        start = self._start
        end = data.find(b"\r", start, start + 10)
        if end < 0 or not data.startswith(self._suffix, end):
            return 0
        begin = end + len(self._suffix)
        size = total - begin
        digits = data[start:end]
        if not digits.isdigit() or int(digits) != size:
            return 0
        self._set(data[:begin], size)
        if self._credit < _MOST_CREDIT:
            self._credit += 1
        return begin

    def recall_stream(self, data: bytes) -> int:
        """Where the body begins, if `data` begins with the head of a stream that is remembered; else 0."""
        if not data.startswith(self._stream):
            return 0
        if self._credit < _MOST_CREDIT:
            self._credit += 1
        return len(self._stream)

    def learn(self, data: bytes, total: int) -> bool:
        """Remember the head of `data`, given as to `recall`, which was parsed and found to be one whole message with a
        body of the length that its one Content-Length tells. False where it is not to be remembered."""
        if not self._may_learn():
            return False
        head = _REGULAR.match(data, 0, MOST_HEAD)
        if head is None or head.end() + int(head[1]) != total:
            return False
        self._start, end = head.span(1)
        self._prefix = data[: self._start]
        self._suffix = data[end : head.end()]
        self._set(head[0], int(head[1]))
        return True

    def learn_stream(self, data: bytes) -> bool:
        """Remember the head that `data` begins with, which was parsed and found to be that of a chunked message, beside
        the head that `learn` remembers. False where it is not to be remembered."""
        if not self._may_learn():
            return False
        head = _REGULAR_STREAM.match(data, 0, MOST_HEAD)
        if head is None:
            return False
        self._stream = head[0]
        return True

    def _set(self, head: bytes, size: int) -> None:
        self._head = head
        self._begin = len(head)
        self._total = len(head) + size
        self.size = size

    def _may_learn(self) -> bool:
        self._credit += 1
        if self._credit < _PRICE:
            return False
        self._credit -= _PRICE
        return True
