"""Counting tokens in passing, without decoding events.

Splitting and decoding the events of one piece costs a hundred times as much as two searches through its bytes.
"""

import re

_number_at = re.compile(rb"\s*:\s*(\d{1,15})").match
_TOTAL = b'"total_tokens"'
_OLLAMA = (b'"prompt_eval_count"', b'"eval_count"')
_TAIL = 2_048
"""`usage` stands in the last bytes of an answer."""
_MOST_KEPT = 16_384
_MARK = b"\ndata:"
_DONE = b"[DONE]"
"""Ends a stream of OpenAI's dialect, and is no token."""
_MARGIN = len(_MARK) - 1


class TokenScan:
    """Counts: `usage` where the answer has it, else one token for each event. Any split gives the same.

    The last piece is looked at only when another follows, or when the answer turns out to have no usage.
    """

    __slots__ = ("_before", "_events", "_last")

    def __init__(self) -> None:
        self._events = 0
        self._before = b"\n"
        """The end of all pieces before the last one."""
        self._last = b""

    def feed(self, piece: bytes) -> None:
        """Look at a piece of the answer."""
        last = self._last
        if last:
            self._events += self._marks()
            self._before = last[-_TAIL:] if len(last) >= _TAIL else (self._before + last)[-_TAIL:]
        if len(piece) <= _MOST_KEPT:
            self._last = piece
            return
        self._last = piece
        self._events += self._marks()
        self._before, self._last = piece[-_TAIL:], b""

    @property
    def ends_an_event(self) -> bool:
        """Whether all so far ends behind an event, so that something may be put in."""
        tail = self._tail(4)
        return tail.endswith((b"\n\n", b"\n\r\n")) or tail == b"\n"

    @property
    def is_complete(self) -> bool:
        """Whether all so far ends behind an event, or told that it is the end."""
        return self.ends_an_event or b"[DONE]" in self._tail(64)

    def total(self, *, streamed: bool) -> int:
        """Tokens of the prompt and the answer so far."""
        last = self._last
        tail = last if len(last) >= _TAIL else self._before + last
        told = told_total(tail)
        if told is not None:
            return told
        return self._events + self._marks() - tail.rstrip().endswith(_DONE) if streamed else 0

    def _marks(self) -> int:
        """Events that begin in the last piece, also across the cut before it."""
        last = self._last
        if self._before.endswith(b"\n"):
            return last.count(_MARK) + last.startswith(_MARK[1:])
        seam = self._before[-_MARGIN:] + last[:_MARGIN]
        return last.count(_MARK) + (_MARK in seam)

    def _tail(self, size: int) -> bytes:
        last = self._last
        return last[-size:] if len(last) >= size else (self._before + last)[-size:]


def told_total(answer: bytes) -> int | None:
    """Tokens of the prompt and the answer, where the answer has `usage`; its last bytes are enough."""
    total = _told(answer, _TOTAL)
    if total is None and _OLLAMA[1] in answer:
        return sum(_told(answer, name) or 0 for name in _OLLAMA)
    return total


def _told(answer: bytes, name: bytes) -> int | None:
    """The last number that stands behind a name."""
    at = answer.rfind(name)
    found = _number_at(answer, at + len(name)) if at >= 0 else None
    return int(found[1]) if found is not None else None
