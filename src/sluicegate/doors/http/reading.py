"""Reading requests off a connection: the parser's callbacks, and what the parser leaves to its user.

bytes ▶ read ▶ httptools ▶ on_… ▶ request_began ▶ body_came … ▶ request_came       or, instead of any,  refuse

Limits: a head's bytes also while a line is unfinished, and what a chunked body takes beside its payload.
"""

from abc import ABC, abstractmethod

import httptools

from sluicegate.doors.http.request import (
    MOST_AT_ONCE,
    MOST_HEAD_BYTES,
    MOST_OVERHEAD,
    Header,
    Known,
    Request,
    check_size,
    head_too_large,
    parser_fault,
    read_head,
    repeat_framing,
)
from sluicegate.errors import MalformedHead, SluicegateError
from sluicegate.wire.memory import HeadMemory

_UNUSUAL = frozenset({b"transfer-encoding", b"upgrade"})


class RequestReading(ABC):
    """One connection's reading half. What it finds it hands to the methods that its heir writes, and then to the
    parser's next callback; each may raise `SluicegateError` to refuse the request."""

    __slots__ = (
        "_fed",
        "_head_bytes",
        "_headers",
        "_heads",
        "_is_deaf",
        "_is_repeating",
        "_known",
        "_later",
        "_memory",
        "_parser",
        "_reading",
        "_remembered",
        "_target",
        "_upgrading",
    )

    def __init__(self, known: Known) -> None:
        self._known = known
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._headers: list[Header] = []
        self._head_bytes = 0
        """Of the head that is being read; 0 between requests."""
        self._heads = 0
        """How many heads have begun."""
        self._target = b""
        self._reading: Request | None = None
        """Whose body is being read."""
        self._upgrading: Request | None = None
        """Which asks for an upgrade."""
        self._is_repeating = False
        """What the parser reads next is a head of our own, for the sake of the body behind it."""
        self._fed = 0
        """Bytes that the parser was given last."""
        self._later = b""
        """What has arrived and is not parsed yet."""
        self._is_deaf = False
        """Nothing that still comes is read as a request."""
        self._memory = HeadMemory()
        self._remembered: Request | None = None
        """What the head in memory stands for; it has no body."""

    # --- for the heir to write ---

    @abstractmethod
    def takes_over(self, request: Request) -> bool:
        """Whether the upgrade that the request asks for will be made."""

    @property
    @abstractmethod
    def is_busy(self) -> bool:
        """Whether a request waits for its turn."""

    @abstractmethod
    def request_began(self, request: Request) -> None:
        """A head is complete and sound."""

    @abstractmethod
    def body_came(self, request: Request, data: bytes) -> None:
        """Some of a body; it is counted in `size` already."""

    @abstractmethod
    def request_came(self, request: Request) -> None:
        """A request is whole."""

    @abstractmethod
    def nonsense_came(self, error: SluicegateError) -> None:
        """What came is no request."""

    @abstractmethod
    def refuse(self, error: SluicegateError) -> None:
        """What came is a request that is not taken."""

    @abstractmethod
    def hand_over(self, request: Request, rest: bytes) -> None:
        """Make the upgrade; `rest` came behind the request."""

    # --- bytes in ---

    def recall(self, data: bytes) -> Request | None:
        """The request that `data` is, when it is one whole request like one before; to be asked only between two.

        It is the same object each time: who answers must let go of it with the end of the answer.
        """
        begin = self._memory.recall(data, len(data))
        request = self._remembered
        if not begin or request is None:
            return None
        size = self._memory.size
        if size != request.size:
            request.size = size
            length = b"%d" % size
            request.fields = {**request.fields, b"content-length": length}
            request.headers = [
                (name, length if name == b"content-length" else value) for name, value in request.headers
            ]
        request.pieces = [data[begin:]]
        request.judged = request.principal = None
        return request

    def learn(self, data: bytes, request: Request) -> None:
        """Remember how the request began that `data` turned out to be, if it is of the usual kind."""
        is_usual = request.keep_alive and request.is_11 and not request.expects and _UNUSUAL.isdisjoint(request.fields)
        if is_usual and self._memory.learn(data, len(data)):
            again = self._remembered = Request(
                request.method, request.path, request.query, request.headers, request.fields
            )
            again.size = request.size
            again.is_whole = True

    def read(self, data: bytes) -> None:
        """Take what has arrived."""
        if self._is_deaf:
            return
        if self._later or len(data) > MOST_AT_ONCE or self.is_busy:
            self._later += data
            self.read_on()
        else:
            self._parse(data)

    def read_on(self) -> None:
        """Take what was left, as far as no request waits for its turn: thousands of them fit into one reading.

        In pieces, also so that what a transfer coding takes beside its body can be seen to grow.
        """
        while self._later and not self.is_busy and not self._is_deaf:
            reading = self._reading
            is_counted = reading is not None and b"transfer-encoding" not in reading.fields
            size = len(self._later) if is_counted else MOST_AT_ONCE
            data, self._later = self._later[:size], self._later[size:]
            self._parse(data)

    def forget(self) -> None:
        """Nothing is read any more. The parser and this hold each other, so that only the collector would free them."""
        self._is_deaf = True
        self._parser = self._reading = self._upgrading = self._remembered = None
        self._headers = []
        self._later = self._target = b""

    def _parse(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            return
        was_in_head, was_reading, heads = self._head_bytes, self._reading, self._heads
        self._fed = len(data)
        while data:
            try:
                parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                parser, data = self._upgraded(data[upgrade.args[0] :])
            except httptools.HttpParserError as error:
                self._parser_failed(error)
                return
        if self._head_bytes and (
            self._heads == heads if was_in_head else was_reading is None and self._heads == heads + 1
        ):
            # The parser keeps an unfinished line, however long.
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self.refuse(head_too_large())
                return
        if was_reading is not None and was_reading is self._reading:
            was_reading.fed += len(data)
            if was_reading.fed - was_reading.size > MOST_OVERHEAD + 8 * was_reading.size:
                self.refuse(MalformedHead("the body's transfer coding takes much more than the body"))

    def on_message_begin(self) -> None:
        """The first byte of a request. This and what follows is called by the parser."""
        self._headers = []
        self._target = b""
        self._head_bytes = 1
        self._heads += 1

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header, its value trimmed; behind the head it is a trailer, which means nothing here."""
        if self._head_bytes:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        parser = self._parser
        if parser is None:
            return
        if self._is_repeating:
            self._is_repeating = False
            self._head_bytes = 0
            return
        if self._head_bytes + self._fed > MOST_HEAD_BYTES:
            check_size(self._target, self._headers)
        self._head_bytes = 0
        request = read_head(parser.get_method(), parser.get_http_version(), self._target, self._headers, self._known)
        request.keep_alive = request.keep_alive and parser.should_keep_alive()
        if parser.should_upgrade():
            self._upgrading = request
            if self.takes_over(request):
                return
        self._reading = request
        self.request_began(request)

    def on_body(self, data: bytes) -> None:
        """Some of the body, without its transfer coding."""
        request = self._reading
        if request is not None:
            request.size += len(data)
            self.body_came(request, data)

    def on_message_complete(self) -> None:
        """The request is whole, unless it asked for an upgrade: then the parser says so too early."""
        request = self._reading
        if request is None or request is self._upgrading:
            return
        self._reading = None
        request.is_whole = True
        self.request_came(request)

    # --- what the parser stumbles over ---

    def _upgraded(self, rest: bytes) -> tuple[httptools.HttpRequestParser, bytes]:
        """The parser has stopped at an upgrade: hand the socket over, or go on; a parser, and the bytes to go on with.

        An upgrade that we do not make is as if it had not been asked for, and its request may have a body, which the
        parser left out: another one reads it behind a head that announces the same.
        """
        request, self._upgrading = self._upgrading, None
        if request is not None and self._reading is not request:
            rest += self._later
            self.forget()
            self.hand_over(request, rest)
            return httptools.HttpRequestParser(self), b""
        parser = self._parser = httptools.HttpRequestParser(self)
        if request is None or not request.has_body:
            self.on_message_complete()
        else:
            self._is_repeating = True
            parser.feed_data(repeat_framing(request))
        return parser, rest

    def _parser_failed(self, error: httptools.HttpParserError) -> None:
        cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else None
        if isinstance(cause, SluicegateError):
            self.refuse(cause)
        elif cause is not None:
            raise cause from None
        else:
            self.nonsense_came(parser_fault(type(error).__name__, str(error)))
