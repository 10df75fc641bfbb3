"""Bytes of a connection into answers: heads, bodies and ends (RFC 9112)."""

from typing import Final

import httptools

from sluicegate.backends.backend import AnswerHead
from sluicegate.backends.upstream.coding import CODINGS, BadCoding, Unpacker

_MOST_BARREN = 65_536
"""Bytes in a row without any of the body: a head, interim answers, chunk extensions, trailers."""
_MOST_TYPES = 64
_WANTED: Final = frozenset(
    {b"content-type", b"content-length", b"content-encoding", b"transfer-encoding", b"retry-after", b"keep-alive"}
)
_NO_BODY: Final = frozenset({204, 304})


class AnswerReader:
    """Reads one answer after the other; interim ones (1xx) are passed over.

    After each `feed`: `head` once it is there, `is_whole` when the body has ended, `fault`, in words, when it never
    will. The same bytes give the same answer however they are split. `types` remembers content types for all readers.
    """

    __slots__ = (
        "_barren", "_body", "_fields", "_is_interim", "_own", "_parser", "_types", "_unpacker", "_until_close", "fault",
        "head", "is_whole", "keeps", "keeps_seconds", "on_body",
    )  # fmt: skip

    def __init__(self, types: dict[bytes, str]) -> None:
        self._types = types
        self._fields: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self.on_body = self._body.append
        """Called by the parser; straight into the list, since a busy stream has dozens of chunks in each packet."""
        self._own: int | None = None
        """How many of `_body` belong to the answer, once it is whole."""
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self.keeps_seconds: float | None = None
        self.begin()

    def begin(self) -> None:
        """Expect the next answer."""
        self.head: AnswerHead | None = None
        self.is_whole = False
        self.keeps = False
        self.fault = ""
        self._is_interim = False
        self._until_close = False
        self._unpacker: Unpacker | None = None
        self._barren = 0
        self._own = None

    def feed(self, data: bytes | memoryview) -> bytes:
        """Take what has arrived; the bytes of the body that were in it, decoded."""
        if self._parser is None:
            return b""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            self._misread(str(error))
        pieces = self._body
        if not pieces:
            self._barren += len(data)
            if self._barren > _MOST_BARREN and not self.is_whole:
                self._misread(f"{self._barren} bytes without a body")
            plain = b""
        else:
            self._barren = 0
            if self._own is not None:
                del pieces[self._own :]
                self._own = 0
            elif self.head is None:
                pieces.clear()
            plain = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
        if self._unpacker is not None:
            plain = self._unpacked(self._unpacker, plain)
        return plain

    def ends_with_connection(self) -> bool:
        """Whether the end of the connection is the end of the body, and the body is whole."""
        return self._until_close and not self.fault and (self._unpacker is None or self._unpacker.is_whole)

    def close(self) -> None:
        """Let go of the parser, which holds on to this reader."""
        self._parser = None

    def on_message_begin(self) -> None:
        """Called by the parser."""
        if self.is_whole:
            self.keeps = False  # it speaks without being asked
        else:
            self._fields.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser, for trailers too."""
        name = name.lower()
        if name in _WANTED and self.head is None:
            fields = self._fields
            fields[name] = fields[name] + b", " + value if name in fields else value

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self.head is not None or self._parser is None:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._is_interim = True
            if status == 101:
                self._misread("it changes the protocol (101), unasked")
            return
        fields = self._fields
        length = self._framing(status)
        if b"content-encoding" in fields and status not in _NO_BODY:
            self._undo(fields[b"content-encoding"])
            length = None
        if b"keep-alive" in fields:
            self.keeps_seconds = _keep_alive(fields[b"keep-alive"])
        told = fields.get(b"retry-after")
        retry_after = float(told) if told is not None and told.isdigit() and len(told) < 10 else None
        if not self.fault:
            self.head = AnswerHead(
                status, self._content_type(fields.get(b"content-type", b"")), retry_after, length, not self._until_close
            )

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._is_interim:
            self._is_interim = False
        elif self.head is not None and not self.is_whole and self._parser is not None:
            self.is_whole = True
            self._own = len(self._body)
            self.keeps = self._parser.should_keep_alive()

    def _framing(self, status: int) -> int | None:
        """How the body ends: its length, where the head tells it."""
        fields = self._fields
        if status in _NO_BODY:
            return 0
        coding = fields.get(b"transfer-encoding")
        if coding is not None:
            if coding.strip().lower() != b"chunked":
                self._misread(f'a transfer coding that was not asked for: "{coding[:80].decode("latin-1")}"')
            return None
        told = fields.get(b"content-length")
        self._until_close = told is None
        return None if told is None else int(told)

    def _undo(self, told: bytes) -> None:
        coding = told.strip().lower()
        if coding in CODINGS:
            self._unpacker = Unpacker(coding)
        elif coding not in (b"", b"identity"):
            self._misread(f'a content coding that was not asked for: "{told[:80].decode("latin-1")}"')

    def _unpacked(self, unpacker: Unpacker, data: bytes) -> bytes:
        try:
            plain = unpacker.feed(data)
        except BadCoding as error:
            plain = b""
            self.is_whole = False
            self._misread(str(error))
        if self.is_whole and not unpacker.is_whole:
            self.is_whole = False
            self._misread("the compressed body is cut short")
        return plain

    def _content_type(self, told: bytes) -> str:
        """The same object for the same bytes: a server has few, and each lives as long as its call."""
        known = self._types.get(told)
        if known is None:
            known = told.decode("latin-1")
            if len(self._types) < _MOST_TYPES:
                self._types[told] = known
        return known

    def _misread(self, fault: str) -> None:
        self.keeps = False
        if not self.is_whole and not self.fault:
            self.fault = fault


def _keep_alive(told: bytes) -> float | None:
    """Seconds in ``Keep-Alive: timeout=5, max=100``; 0 when the next call would be one too many."""
    seconds: float | None = None
    for part in told.split(b","):
        name, _, value = part.strip().partition(b"=")
        if value.isdigit() and len(value) < 10:
            if name.lower() == b"timeout":
                seconds = float(value)
            elif name.lower() == b"max" and int(value) == 0:
                return 0.0
    return seconds
