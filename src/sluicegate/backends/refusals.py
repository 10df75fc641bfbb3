"""llama.cpp's server answers 500 to some requests that are the caller's fault; here they become the 400 they are."""

import re
from typing import Final

from sluicegate.backends.backend import AnswerHead, AnswerSink
from sluicegate.backends.between import Between

_CALLERS_FAULT: Final = re.compile(
    rb"json\.exception|(image|audio) input|not support|unsupported|missing|must be|invalid|failed to parse",
    re.IGNORECASE,
)
_JUDGED: Final = frozenset({500, 501})
_LONGEST = 65_536


class RefusalSink(Between):
    """Hands on an answer; a 500 or 501 whose words blame the request comes out with status 400.

    Such an answer is held back until its words are here, or 64 KiB of them.
    """

    __slots__ = ("_held", "_words")

    def __init__(self, sink: AnswerSink) -> None:
        super().__init__(sink)
        self._held: AnswerHead | None = None
        self._words = b""

    def answer_begun(self, head: AnswerHead) -> None:
        """See `AnswerSink`."""
        if head.status in _JUDGED:
            self._held = head
        else:
            super().answer_begun(head)

    def answer_piece(self, data: bytes) -> None:
        """See `AnswerSink`."""
        if self._held is None:
            super().answer_piece(data)
            return
        self._words += data
        if len(self._words) > _LONGEST:
            self._let_go(self._held)

    def answer_ended(self) -> None:
        """See `AnswerSink`."""
        if self._held is not None:
            self._let_go(self._held)
        super().answer_ended()

    def _let_go(self, head: AnswerHead) -> None:
        self._held = None
        words, self._words = self._words, b""
        status = 400 if _CALLERS_FAULT.search(words) else head.status
        super().answer_begun(AnswerHead(status, head.content_type, head.retry_after, head.length))
        super().answer_piece(words)
