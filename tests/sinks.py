"""A sink that writes down what it is told, and checks that it is told in order."""

import asyncio
from collections.abc import Callable

from sluicegate.backends.backend import AnswerHead
from sluicegate.errors import BackendError


class Recorder:
    """Fulfils `AnswerSink`; `over` is set at the end. `on_begun` and `on_piece` are called as that happens."""

    def __init__(
        self, *, on_begun: Callable[[], None] | None = None, on_piece: Callable[[], None] | None = None
    ) -> None:
        self.head: AnswerHead | None = None
        self.pieces: list[bytes] = []
        self.error: BackendError | None = None
        self.ended = False
        self.begun = asyncio.Event()
        self.over = asyncio.Event()
        self._on_begun = on_begun
        self._on_piece = on_piece

    @property
    def body(self) -> bytes:
        """All pieces so far."""
        return b"".join(self.pieces)

    @property
    def failure(self) -> BackendError:
        """The error; fails when there is none."""
        assert self.error is not None
        return self.error

    def answer_begun(self, head: AnswerHead) -> None:
        """See `AnswerSink`."""
        assert self.head is None
        assert not self.over.is_set()
        self.head = head
        self.begun.set()
        if self._on_begun is not None:
            self._on_begun()

    def answer_piece(self, data: bytes) -> None:
        """See `AnswerSink`."""
        assert self.head is not None
        assert not self.over.is_set()
        assert data
        self.pieces.append(data)
        if self._on_piece is not None:
            self._on_piece()

    def answer_ended(self) -> None:
        """See `AnswerSink`."""
        assert self.head is not None
        assert not self.over.is_set()
        self.ended = True
        self.over.set()

    def answer_failed(self, error: BackendError) -> None:
        """See `AnswerSink`."""
        assert not self.over.is_set()
        self.error = error
        self.over.set()
