"""Chunked bodies: sizes, extensions, terminators, trailers."""

from tests.corpus.case import (
    BODY,
    CHUNKED,
    HIDDEN,
    LAST,
    NO_SUCH_MODEL,
    Case,
    chunk,
    either,
    post,
    refuse,
    serve,
)

_RULE = "RFC 9112 §7.1"
_EXTENSIONS = "RFC 9112 §7.1.1"
_TRAILERS = "RFC 9112 §7.1.2"
_SIZE = b"%x" % len(BODY)


def _served(name: str, sentence: str, source: str, *bodies: bytes) -> Case:
    first, *rest = bodies
    pieces = (post(CHUNKED, body=first), *rest)
    return serve(name, sentence, source, *pieces, statuses=NO_SUCH_MODEL, says=b"corpus-model")


def _refused(name: str, sentence: str, source: str, body: bytes, statuses: tuple[int, ...] = (400,)) -> Case:
    return refuse(name, sentence, source, post(CHUNKED, body=body), statuses=statuses)


def _size(name: str, sentence: str, size: bytes, statuses: tuple[int, ...] = (400,)) -> Case:
    """A whole chunk whose size line is odd."""
    return _refused(name, sentence, _RULE, size + b"\r\n" + BODY + b"\r\n" + LAST, statuses)


def _vast(name: str, sentence: str, size: bytes) -> Case:
    """A chunk larger than any body may be; waiting for the rest of it is right too, until the sender ends."""
    pieces = post(CHUNKED, body=size + b"\r\n" + BODY + b"\r\n" + LAST)
    return refuse(name, sentence, _RULE, pieces, statuses=(400, 408, 413), cut=True)


def _trailer(name: str, sentence: str, field: bytes) -> Case:
    """A trailer that must not change how the request is read: left alone or refused."""
    body = chunk(BODY) + b"0\r\n" + field + b"\r\n\r\n"
    return either(name, sentence, "RFC 9110 §6.5.1", post(CHUNKED, body=body), statuses=NO_SUCH_MODEL)


SIZES = (
    _served("chunk-size-capitals", "a size in capital digits", _RULE, b"%X\r\n%b\r\n" % (len(BODY), BODY) + LAST),
    _served("chunk-size-zeros", "leading zeros of a size", _RULE, b"0000" + chunk(BODY) + LAST),
    _served("chunk-last-zeros", "a last chunk of several zeros", _RULE, chunk(BODY) + b"000\r\n\r\n"),
    _served(
        "chunks-of-one-byte",
        "every byte in a chunk of its own",
        _RULE,
        b"".join(chunk(BODY[at : at + 1]) for at in range(len(BODY))) + LAST,
    ),
    _served(
        "chunk-in-pieces",
        "a size, its end and the data arrive one by one",
        _RULE,
        _SIZE[:1],
        _SIZE[1:],
        b"\r",
        b"\n",
        BODY[:9],
        BODY[9:],
        b"\r",
        b"\n",
        b"0",
        b"\r\n",
        b"\r",
        b"\n",
    ),
    _size("chunk-size-plus", "a size with a plus sign", b"+" + _SIZE),
    _size("chunk-size-minus", "a size with a minus sign", b"-" + _SIZE),
    _size("chunk-size-0x", "a size with 0x before it", b"0x" + _SIZE),
    _size("chunk-size-underscore", "a size with an underscore, as Python's int() takes", b"4_3"),
    _size("chunk-size-blank-before", "a blank before the size", b" " + _SIZE),
    _size("chunk-size-tab-before", "a tab before the size", b"\t" + _SIZE),
    _size("chunk-size-blank-after", "a blank after the size, without an extension", _SIZE + b" "),
    _size("chunk-size-blank-within", "a blank between the digits", b"4 3"),
    _size("chunk-size-empty", "no size at all", b""),
    _size("chunk-size-word", "a size that is no number", b"xyz"),
    _size("chunk-size-comma", "two sizes", _SIZE + b"," + _SIZE),
    _size("chunk-size-nul", "a NUL after the size", _SIZE + b"\x00"),
    _size("chunk-size-line-lf", "a bare LF after the size, hidden before another line", _SIZE + b"\n0"),
    _size("chunk-size-full-width", "digits that only Unicode calls digits", "４３".encode()),
    _size("chunk-size-wraps-64-bits", "2^64 more than the chunk has", b"1" + _SIZE.zfill(16), (400, 413)),
    _vast("chunk-size-wraps-32-bits", "2^32 more than the chunk has", b"1" + _SIZE.zfill(8)),
    _vast("chunk-size-64-bits-full", "the largest unsigned 64-bit size", b"f" * 16),
    _vast("chunk-size-int64-max", "the largest signed 64-bit size", b"7" + b"f" * 15),
    _size("chunk-size-hundred-digits", "a size of a hundred digits", b"f" * 100, (400, 413)),
    _size("chunk-size-100000-zeros", "leading zeros without end", b"0" * 100_000 + _SIZE, (400, 413, 431)),
)

ENDS = (
    _refused(
        "chunk-longer-than-size", "more data than the size says", _RULE, _SIZE + b"\r\n" + BODY + b"more\r\n" + LAST
    ),
    _refused("chunk-shorter-than-size", "less data than the size says", _RULE, b"45\r\n" + BODY + b"\r\n" + LAST),
    _refused("chunk-data-end-lf", "a bare LF after the data", _RULE, _SIZE + b"\r\n" + BODY + b"\n" + LAST),
    _refused("chunk-data-end-cr", "a bare CR after the data", _RULE, _SIZE + b"\r\n" + BODY + b"\r" + LAST),
    _refused(
        "chunk-data-end-missing", "nothing between the data and the next size", _RULE, _SIZE + b"\r\n" + BODY + LAST
    ),
    _refused("chunk-data-end-junk", "two other bytes after the data", _RULE, _SIZE + b"\r\n" + BODY + b"XX" + LAST),
    _refused("chunk-size-end-lf", "a bare LF after the size", _RULE, _SIZE + b"\n" + BODY + b"\r\n" + LAST),
    _refused("chunk-size-end-cr", "a bare CR after the size", _RULE, _SIZE + b"\r" + BODY + b"\r\n" + LAST),
    _refused("chunk-last-end-lf", "a bare LF ends the last chunk's size", _RULE, chunk(BODY) + b"0\n\r\n"),
    _refused("chunk-end-lf", "a bare LF ends the body", _RULE, chunk(BODY) + b"0\r\n\n"),
    _refused("chunk-end-cr", "a bare CR ends the body", _RULE, chunk(BODY) + b"0\r\n\rX"),
    refuse(
        "chunk-last-missing",
        "the sender ends before the last chunk",
        "RFC 9112 §8",
        post(CHUNKED, body=chunk(BODY)),
        statuses=(400, 408),
        cut=True,
    ),
    refuse(
        "chunk-last-crlf-missing",
        "the sender ends before the last CRLF",
        "RFC 9112 §8",
        post(CHUNKED, body=chunk(BODY) + b"0\r\n"),
        statuses=(400, 408),
        cut=True,
    ),
    refuse(
        "chunk-cut-in-data",
        "the sender ends within a chunk",
        "RFC 9112 §8",
        post(CHUNKED, body=chunk(BODY)[:-20]),
        statuses=(400, 408),
        cut=True,
    ),
    refuse(
        "chunk-cut-in-size",
        "the sender ends within a size",
        "RFC 9112 §8",
        post(CHUNKED, body=_SIZE[:1]),
        statuses=(400, 408),
        cut=True,
    ),
)

EXTENSIONS = (
    _served("chunk-extension", "extensions are left alone", _EXTENSIONS, chunk(BODY, b";a=b;c") + LAST),
    _served(
        "chunk-extension-quoted", "a quoted value may have odd bytes", _EXTENSIONS, chunk(BODY, b';a="0;x, y"') + LAST
    ),
    _served("chunk-extension-on-last", "an extension of the last chunk", _EXTENSIONS, chunk(BODY) + b"0;a=b\r\n\r\n"),
    either(
        "chunk-extension-blanks",
        "blanks around the semicolon are allowed, but bad",
        _EXTENSIONS,
        post(CHUNKED, body=chunk(BODY, b" ; a=b") + LAST),
        statuses=NO_SUCH_MODEL,
    ),
    either(
        "chunk-extension-empty",
        "a semicolon and nothing",
        _EXTENSIONS,
        post(CHUNKED, body=chunk(BODY, b";") + LAST),
        statuses=NO_SUCH_MODEL,
    ),
    _refused("chunk-extension-lf", "a bare LF ends the extension", "TERM.EXT", chunk(BODY, b";a\n")),
    _refused(
        "chunk-extension-lf-hides-size",
        "after the bare LF, a size that another server would read",
        "TERM.EXT",
        _SIZE + b";\n0\r\n" + BODY + b"\r\n" + LAST,
    ),
    _refused("chunk-extension-cr", "a bare CR in the extension", "TERM.EXT", chunk(BODY, b";a\rb") + LAST),
    _refused("chunk-extension-nul", "a NUL in the extension", "RFC 9110 §5.6.2", chunk(BODY, b";a=\x00") + LAST),
    _refused(
        "chunk-extension-100-kb",
        "an extension of 100 KB",
        _EXTENSIONS,
        chunk(BODY, b";" + b"a" * 100_000) + LAST,
        (400, 413, 431),
    ),
    _refused(
        "chunk-extensions-megabytes",
        "small extensions of small chunks, 1 MB in all",
        "CVE-2023-39326",
        b"".join(chunk(b" ", b";" + b"a" * 1_000) for _ in range(1_000)) + chunk(BODY) + LAST,
        (400, 413, 431),
    ),
)

TRAILERS = (
    _served("trailer", "a trailer is left alone", _TRAILERS, chunk(BODY) + b"0\r\nX-Sum: 5\r\n\r\n"),
    _trailer("trailer-length", "Content-Length is no trailer", b"Content-Length: 5"),
    _trailer("trailer-coding", "Transfer-Encoding is no trailer", b"Transfer-Encoding: chunked"),
    _trailer("trailer-host", "Host is no trailer", b"Host: evil"),
    _trailer("trailer-authorization", "credentials are no trailer", b"Authorization: Bearer none"),
    _trailer("trailer-connection", "Connection is no trailer", b"Connection: keep-alive"),
    _refused("trailer-no-colon", "a trailer without a colon", _TRAILERS, chunk(BODY) + b"0\r\njunk\r\n\r\n"),
    _refused("trailer-blank-before-colon", "a blank before the colon", _TRAILERS, chunk(BODY) + b"0\r\nX : y\r\n\r\n"),
    _refused("trailer-nul", "a NUL in a trailer", _TRAILERS, chunk(BODY) + b"0\r\nX: \x00\r\n\r\n"),
    _refused("trailer-bare-lf", "a bare LF between trailers", "TERM.TRAILER", chunk(BODY) + b"0\r\nX: y\nZ: z\r\n\r\n"),
    _refused("trailer-hides-request", "a request in place of trailers", "TE.CL", chunk(BODY) + b"0\r\n" + HIDDEN),
    _refused("trailer-folded", "a folded trailer", "RFC 9112 §5.2", chunk(BODY) + b"0\r\nX: y\r\n z\r\n\r\n"),
    _refused(
        "trailers-300-kb",
        "trailers of 300 KB",
        _TRAILERS,
        chunk(BODY) + b"0\r\n" + b"X: yyyyy\r\n" * 30_000 + b"\r\n",
        (400, 413, 431),
    ),
)

CASES = (*SIZES, *ENDS, *EXTENSIONS, *TRAILERS)
