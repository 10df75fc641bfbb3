"""The bytes of answers: status lines, heads, chunks."""

import time
from collections.abc import Collection, Mapping
from http import HTTPStatus

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
STATUS_LINES: Mapping[int, bytes] = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}


def status_line(status: int) -> bytes:
    """The first line of an answer."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def chunk(data: bytes) -> bytes:
    """`data`, not empty, in the chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def render_head(status: int, headers: Collection[tuple[bytes, bytes]], date: "DateLine | None" = None) -> bytes:
    """A whole head. Names and values must be free of line ends: raises `ValueError` where one is not."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if lines.count(b"\n") != lines.count(b"\r\n") or lines.count(b"\r\n") != len(headers):
        raise ValueError("a header has a line end in its name or value")
    return b"%b%b%b\r\n" % (status_line(status), lines, date.line() if date is not None else b"")


class DateLine:
    """The Date header, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        """The whole header line, with its end."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            now = time.gmtime(second)
            words = (_DAYS[now.tm_wday], now.tm_mday, _MONTHS[now.tm_mon - 1], *now[:1], *now[3:6])
            self._line = b"date: %b, %02d %b %04d %02d:%02d:%02d GMT\r\n" % words
        return self._line
