"""A request's head, and the checks that the parser leaves to its user.

Anything that two readers could understand differently is refused: where a body ends, which host is meant.
Source: RFC 9112 (HTTP/1.1), sections 3, 5, 6 and 11.2; RFC 9110, section 7.2.
"""

import re
from collections.abc import Sequence

from sluicegate.domain.principal import Principal
from sluicegate.errors import (
    BodyTooLarge,
    ExpectationFailed,
    HeadTooLarge,
    MalformedHead,
    MethodUnknown,
    SluicegateError,
    VersionUnsupported,
)

Header = tuple[bytes, bytes]

MOST_HEADERS = 100
MOST_HEAD_BYTES = 32_768
MOST_TARGET_BYTES = 8_192
MOST_AT_ONCE = 8_192
MOST_OVERHEAD = 16_384
"""Bytes of a body's transfer coding: sizes, extensions and trailers, beside eight for each byte of the body."""
_MOST_KNOWN = 1_000
_LONGEST_KNOWN = 100

_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.v]+\])(?::[0-9]{0,5})?")
_ORIGIN_FORM = re.compile(rb"/[\x21\x23-\x3b\x3d\x3f-\x7e]*")
_ABSOLUTE = re.compile(rb"(?i)https?://([^/?#\x00-\x20\x7f-\xff]*)((?:[/?].*)?)", re.DOTALL)
_CLOSE = re.compile(rb"(?i)(?:^|,)[ \t]*close[ \t]*(?:,|$)")
_ONCE = frozenset({b"host", b"content-length", b"transfer-encoding", b"content-type", b"expect", b"authorization"})


class Request:
    """One request as it came. `fields` has each header once (the last one wins), names in lower case."""

    __slots__ = (
        "expects",
        "fed",
        "fields",
        "headers",
        "is_11",
        "is_whole",
        "judged",
        "keep_alive",
        "method",
        "path",
        "pieces",
        "principal",
        "query",
        "size",
    )

    def __init__(self, method: bytes, path: bytes, query: bytes, headers: list[Header], fields: dict[bytes, bytes]):
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.fields = fields
        self.is_11 = True
        self.keep_alive = True
        self.expects = False
        self.pieces: list[bytes] = []
        """The body as far as it has come and was not passed on yet."""
        self.judged: object = None
        """What a route has found out about it and need not find out again."""
        self.principal: Principal | None = None
        """On whose behalf it acts; None until it is admitted."""
        self.size = 0
        """Bytes of the body that have come."""
        self.fed = 0
        """Bytes of the body in its transfer coding that have come, but for those that came with the head."""
        self.is_whole = False

    @property
    def body(self) -> bytes:
        """The body, of a request that is whole."""
        pieces = self.pieces
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @property
    def has_body(self) -> bool:
        """Whether a body was announced."""
        return b"transfer-encoding" in self.fields or self.fields.get(b"content-length", b"0").strip(b"0") != b""


def read_head(method: bytes, version: str, target: bytes, headers: list[Header], known: "Known") -> Request:
    """The request that a parsed head stands for.

    Raises `MalformedHead`, `HeadTooLarge`, `VersionUnsupported` or `ExpectationFailed`; after each the connection is
    to be closed, since what follows on it cannot be trusted.
    """
    if target not in known.targets:
        target = _check_target(method, target, headers, known)
    if len(headers) > MOST_HEADERS:
        raise head_too_large()
    fields = dict(headers)
    if len(fields) != len(headers):
        _check_repeats(headers)
    path, _, query = target.partition(b"?")
    request = Request(method, path, query, headers, fields)
    if version == "1.1":
        if fields.get(b"host") not in known.hosts:
            _check_host(fields.get(b"host"), known)
    elif version == "1.0":
        request.is_11 = False
    else:
        raise VersionUnsupported(f"HTTP/{version[:8]} is not spoken here; use HTTP/1.1")
    if b"connection" in fields and _CLOSE.search(fields[b"connection"]):
        request.keep_alive = False
    if b"transfer-encoding" in fields:
        _check_transfer_coding(request)
    if b"expect" in fields:
        if fields[b"expect"].lower() != b"100-continue":
            raise ExpectationFailed('the only expectation known here is "100-continue"')
        request.expects = request.is_11
    return request


def check_size(target: bytes, headers: Sequence[Header]) -> None:
    """Raises `HeadTooLarge`."""
    if len(target) > MOST_TARGET_BYTES:
        raise HeadTooLarge(f"the request target is longer than {MOST_TARGET_BYTES} bytes", status=414)
    size = sum(len(name) + len(value) + 4 for name, value in headers)
    if size > MOST_HEAD_BYTES or len(headers) > MOST_HEADERS:
        raise head_too_large()


def head_too_large() -> HeadTooLarge:
    """The error for a head of too many bytes or headers."""
    return HeadTooLarge(f"the head has more than {MOST_HEAD_BYTES} bytes or {MOST_HEADERS} headers")


def check_length(request: Request, limit: int, setting: str) -> None:
    """Raises `BodyTooLarge` when more than `limit` bytes are announced."""
    declared = request.fields.get(b"content-length", b"0")[:19]
    if len(declared) > 18 or int(declared) > limit:
        size = declared.decode("latin-1")
        raise BodyTooLarge(f"the body has {size} bytes or more; at most {limit} are taken (setting {setting})")


def parser_fault(name: str, words: str) -> SluicegateError:
    """The refusal for an error of the parser, which tells its kind by class name."""
    if name == "HttpParserInvalidMethodError":
        return MethodUnknown("the request begins with no known method; this port speaks HTTP/1.1")
    words = words.strip().rstrip(".") or "no HTTP/1.1 request"
    return MalformedHead(f"the request cannot be understood: {words[:200]}")


def _origin_form(method: bytes, target: bytes, headers: list[Header]) -> bytes:
    """The path and query of a target in any form. The host of an absolute form takes the place of the Host header's
    (RFC 9112, section 3.2.2)."""
    if target == b"*" and method == b"OPTIONS":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not absolute[1] or not _HOST.fullmatch(absolute[1]):
        raise MalformedHead("the request target is neither a path nor an http address")
    headers[:] = [(name, absolute[1] if name == b"host" else value) for name, value in headers]
    rest = absolute[2]
    return rest if rest[:1] == b"/" else b"/" + rest


def repeat_framing(request: Request) -> bytes:
    """A head that announces the same body and nothing else."""
    fields = request.fields
    if b"transfer-encoding" in fields:
        return b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
    return b"POST / HTTP/1.1\r\ncontent-length: %b\r\n\r\n" % fields[b"content-length"]


class Known:
    """Targets and hosts that have passed the checks; of each the first thousand are remembered."""

    def __init__(self) -> None:
        self.targets: set[bytes] = set()
        self.hosts: set[bytes] = set()

    def add(self, known: set[bytes], value: bytes) -> None:
        """Remember a value in one of the two."""
        if len(known) < _MOST_KNOWN and len(value) < _LONGEST_KNOWN:
            known.add(value)


def _check_target(method: bytes, target: bytes, headers: list[Header], known: Known) -> bytes:
    """The path and query that a target stands for."""
    if len(target) > MOST_TARGET_BYTES:
        raise HeadTooLarge(f"the request target is longer than {MOST_TARGET_BYTES} bytes", status=414)
    given = target
    if target[:1] != b"/" or not target.isascii():
        target = _origin_form(method, target, headers)
    if not _ORIGIN_FORM.fullmatch(target) and target != b"*":
        raise MalformedHead("the request target has characters that must be percent-encoded")
    if given is target:
        known.add(known.targets, target)
    return target


def _check_host(host: bytes | None, known: Known) -> None:
    if host is None:
        raise MalformedHead("the Host header is missing; HTTP/1.1 wants exactly one")
    if not _HOST.fullmatch(host):
        raise MalformedHead(f'the Host header "{host[:100].decode("latin-1")}" is no host name')
    known.add(known.hosts, host)


def _check_repeats(headers: Sequence[Header]) -> None:
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and name in _ONCE:
            raise MalformedHead(f'the header "{name.decode("latin-1")}" is there more than once')
        seen.add(name)


def _check_transfer_coding(request: Request) -> None:
    if b"content-length" in request.fields:
        raise MalformedHead("the request has Content-Length and Transfer-Encoding; only one can say where it ends")
    if not request.is_11:
        raise MalformedHead("HTTP/1.0 has no Transfer-Encoding")
    if request.fields[b"transfer-encoding"].lower() != b"chunked":
        raise MalformedHead('the only Transfer-Encoding taken is "chunked"')
