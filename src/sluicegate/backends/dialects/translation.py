"""The contract of push translations, and the two ways in which this package fulfils it.

`StreamTranslation` passes on what it can as it comes; `WholeTranslation` waits for the last byte.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from sluicegate.errors import BackendFailed

_log = logging.getLogger(__name__)
MOST_WHOLE_BYTES = 256 * 2**20
"""Most bytes of a body that is put together before it is translated (embeddings can be large)."""


class Translation(Protocol):
    """Turns a body of one dialect into a body of another, piece by piece.

    Any split of the same bytes gives the same joined output and, where it fails, the same error after that output.
    """

    content_type: str
    """Of what comes out."""

    def feed(self, data: bytes) -> bytes:
        """The output that `data`, the payload's next bytes (without transfer coding), makes possible; may be empty.

        Raises `BackendFailed` for nonsense, for a line or event that is too large, and for an error that the backend
        tells inside its answer. When output that came before the fault is still to be handed over, that is returned
        first, and the next call raises. Bytes after the end of the answer are ignored.
        """
        ...

    def finish(self) -> bytes:
        """The last output, at the end of the body. Raises `BackendFailed` when the answer was not complete."""
        ...


class Splitter(Protocol):
    """Cuts bytes into payloads."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The payloads that `data` completes, lazily. Raises `BackendFailed` where one is too large."""
        ...

    def finish(self) -> Iterator[bytes]:
        """What the end of the body completes."""
        ...


class Renderer(Protocol):
    """Says one payload after the other in another dialect."""

    content_type: str
    is_over: bool
    """Whether the answer's end was seen; what follows is not looked at."""

    def take(self, payload: bytes) -> bytes:
        """What this payload becomes. Raises `BackendFailed` as `Translation.feed` does."""
        ...

    def end(self) -> bytes:
        """What is left to say at the end of the body. Raises `BackendFailed` when the answer was not complete."""
        ...


class StreamTranslation:
    """Payloads, cut out by a splitter, are rendered as they come."""

    def __init__(self, splitter: Splitter, renderer: Renderer) -> None:
        self.content_type = renderer.content_type
        self._splitter = splitter
        self._renderer = renderer
        self._failure: BackendFailed | None = None

    def feed(self, data: bytes) -> bytes:
        """See `Translation.feed`."""
        if self._failure is not None:
            raise self._failure
        if self._renderer.is_over:
            return b""
        made: list[bytes] = []
        try:
            self._render(self._splitter.feed(data), made)
        except BackendFailed as failure:
            self._failure = failure
            if not any(made):
                raise
        except Exception:
            self._failure = _untranslatable()
            if not any(made):
                raise self._failure from None
        return b"".join(made)

    def finish(self) -> bytes:
        """See `Translation.finish`."""
        if self._failure is not None:
            raise self._failure
        made: list[bytes] = []
        try:
            if not self._renderer.is_over:
                self._render(self._splitter.finish(), made)
            if not self._renderer.is_over:
                made.append(self._renderer.end())
        except BackendFailed:
            raise
        except Exception:
            raise _untranslatable() from None
        return b"".join(made)

    def _render(self, payloads: Iterable[bytes], made: list[bytes]) -> None:
        for payload in payloads:
            made.append(self._renderer.take(payload))
            if self._renderer.is_over:
                return


class WholeTranslation:
    """The body is put together, and `translate` makes the other one of it; `translate` may raise `BackendFailed`."""

    def __init__(
        self,
        translate: Callable[[bytes], bytes],
        *,
        content_type: str = "application/json",
        most_bytes: int = MOST_WHOLE_BYTES,
    ) -> None:
        self.content_type = content_type
        self._translate = translate
        self._most_bytes = most_bytes
        self._body = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Nothing yet. Raises `BackendFailed` when the body grows too large."""
        if len(self._body) + len(data) > self._most_bytes:
            raise BackendFailed(f"the backend's answer is over {self._most_bytes} bytes; ask for less at once")
        self._body += data
        return b""

    def finish(self) -> bytes:
        """The translated body."""
        try:
            return self._translate(bytes(self._body))
        except BackendFailed:
            raise
        except Exception:
            raise _untranslatable() from None


def _untranslatable() -> BackendFailed:
    """An answer of a form that nobody foresaw; the exception is being handled."""
    _log.exception("an answer could not be translated")
    return BackendFailed("the backend's answer has a form that cannot be translated; the log has more")
