"""Bytes of a connection into answers: heads, bodies and ends (RFC 9112)."""

from types import SimpleNamespace
from typing import Final

import httptools

from sluicegate.backends.backend import AnswerHead
from sluicegate.backends.upstream.coding import CODINGS, BadCoding, Unpacker
from sluicegate.wire.memory import MOST_HEAD, HeadMemory

_MOST_BARREN = 65_536
"""Bytes in a row without any of the body: a head, interim answers, chunk extensions, trailers."""
_MOST_TYPES = 64
_WANTED: Final = frozenset(
    {b"content-type", b"content-length", b"content-encoding", b"transfer-encoding", b"retry-after", b"keep-alive"}
)
_STREAM_HEAD: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
"""Read by the parser in place of a head of the same meaning that is known already."""
_USUAL: Final = b"HTTP/1.1 200 "
_NO_BODY: Final = frozenset({204, 304})


class AnswerReader:
    """Reads one answer after the other; interim ones (1xx) are passed over.

    After each `feed`: `head` once it is there, `is_whole` when the body has ended, `fault`, in words, when it never
    will. The same bytes give the same answer however they are split. `types` remembers content types for all readers.
    """

    __slots__ = (
        "_barren", "_body", "_body_parser", "_fields", "_is_interim", "_memory", "_own", "_parser", "_remembered",
        "_remembered_stream", "_types", "_unpacker", "_until_close", "_whole_parser", "fault", "head", "is_fresh",
        "is_whole", "keeps", "keeps_seconds", "on_body",
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
        """What reads the answer; None after `close`."""
        self.keeps_seconds: float | None = None
        self._memory = HeadMemory()
        self._remembered: tuple[AnswerHead, float | None] | None = None
        """What the head in memory stands for, with `keeps_seconds`."""
        self._remembered_stream: tuple[AnswerHead, float | None] | None = None
        """The same of a chunked answer."""
        self._whole_parser: httptools.HttpResponseParser | None = self._parser
        """Reads heads, too."""
        self._body_parser: httptools.HttpResponseParser | None = None
        """Reads the body behind a head that is known, without telling of the head that it is given."""
        self.begin()

    def begin(self) -> None:
        """Expect the next answer."""
        self.is_fresh = True
        """Nothing of it has come."""
        self.head: AnswerHead | None = None
        self.is_whole = False
        self.keeps = False
        self.fault = ""
        self._is_interim = False
        self._until_close = False
        self._unpacker: Unpacker | None = None
        self._barren = 0
        self._own = None
        self._parser = self._whole_parser

    def feed(self, data: memoryview) -> bytes:
        """Take what has arrived, which is not kept; the bytes of the body that were in it, decoded."""
        if self._parser is None:
            return b""
        is_first, self.is_fresh = self.is_fresh, False
        start = data[:MOST_HEAD].tobytes() if is_first else b""
        begin = self._memory.recall_stream(start) if is_first else 0
        try:
            if begin:
                self._begin_stream().feed_data(data[begin:])
            else:
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
        elif is_first and not begin:
            self._learn(start, len(data), plain)
        return plain

    def _begin_stream(self) -> httptools.HttpResponseParser:
        """The head that is remembered has come: what reads the body behind it."""
        parser = self._body_parser
        if parser is None:
            told = SimpleNamespace(
                on_message_begin=self.on_message_begin,
                on_body=self.on_body,
                on_message_complete=self.on_message_complete,
            )
            parser = self._body_parser = httptools.HttpResponseParser(told)
        self._parser = parser
        parser.feed_data(_STREAM_HEAD)
        if self._remembered_stream is not None:
            self.head, self.keeps_seconds = self._remembered_stream
        return parser

    def recall(self, data: memoryview) -> tuple[AnswerHead, bytes] | None:
        """Head and body, when `data` is one whole answer like one before, behind which the connection is kept; to be
        asked only while `is_fresh`. The reader expects the next answer then, as if it had never seen this one."""
        begin = self._memory.recall(data[:MOST_HEAD].tobytes(), len(data))
        if not begin or self._remembered is None or self._parser is None:
            return None
        head, self.keeps_seconds = self._remembered
        size = self._memory.size
        if head.length != size:
            head = AnswerHead(head.status, head.content_type, head.retry_after, size)
            self._remembered = head, self.keeps_seconds
        return head, data[begin:].tobytes()

    def _learn(self, start: bytes, total: int, plain: bytes) -> None:
        """Remember the head that what came began with, if it is of the usual kind. `total`: how many bytes came;
        `plain`: what of them was the body."""
        head = self.head
        if head is None or head.status != 200 or not head.is_framed or not start.startswith(_USUAL) or not self._parser:
            return
        if b"transfer-encoding" in self._fields:
            if (self.keeps if self.is_whole else self._parser.should_keep_alive()) and self._memory.learn_stream(start):
                self._remembered_stream = head, self._told_seconds()
        elif self.keeps and head.length == len(plain) and self._memory.learn(start, total):
            self._remembered = head, self._told_seconds()

    def _told_seconds(self) -> float | None:
        """How long the head that was read last says that the connection is kept, if it does."""
        return self.keeps_seconds if b"keep-alive" in self._fields else None

    def ends_with_connection(self) -> bool:
        """Whether the end of the connection is the end of the body, and the body is whole."""
        return self._until_close and not self.fault and (self._unpacker is None or self._unpacker.is_whole)

    def close(self) -> None:
        """Let go of the parser, which holds on to this reader."""
        self._parser = self._whole_parser = self._body_parser = None

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
            if self._unpacker is not None:
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
