"""Heads larger than a server should hold."""

from tests.corpus.case import HOST, Case, either, get, refuse, serve

_FIELDS = "RFC 6585 §5"
_LARGE = (400, 414, 431)


def _large(name: str, sentence: str, source: str, data: bytes, *, cut: bool = False) -> Case:
    return refuse(name, sentence, source, data, statuses=_LARGE, cut=cut)


CASES = (
    serve(
        "target-of-4-kb",
        "a target of 4 KB",
        "RFC 9112 §3",
        get(line=b"GET /health/live?" + b"a" * 4_000 + b" HTTP/1.1"),
    ),
    _large(
        "target-of-300-kb",
        "a target of 300 KB",
        "RFC 9110 §15.5.15",
        get(line=b"GET /health/live?" + b"a" * 300_000 + b" HTTP/1.1"),
    ),
    _large(
        "target-without-end",
        "a target of 300 KB, and no end of it",
        "RFC 9110 §15.5.15",
        b"GET /" + b"a" * 300_000,
        cut=True,
    ),
    _large("field-of-300-kb", "one field of 300 KB", _FIELDS, get(b"X-Long: " + b"a" * 300_000)),
    _large(
        "field-without-end",
        "a field of 300 KB, and no end of it",
        _FIELDS,
        get()[:-2] + b"X-Long: " + b"a" * 300_000,
        cut=True,
    ),
    _large("field-name-of-300-kb", "one field name of 300 KB", _FIELDS, get(b"X" * 300_000 + b": y")),
    _large("fields-40000", "forty thousand small fields", _FIELDS, get(*[b"X: yyyyy"] * 40_000)),
    _large("fields-without-end", "small fields without end", _FIELDS, get()[:-2] + b"X: yyyyy\r\n" * 40_000, cut=True),
    _large("fields-forty-of-8-kb", "forty fields of 8 KB", _FIELDS, get(*[b"X: " + b"y" * 8_000] * 40)),
    _large("hosts-40000", "forty thousand Host lines", _FIELDS, get(*[HOST] * 40_000, host=None)),
    either(
        "empty-lines-300-kb",
        "300 KB of empty lines before the request",
        "RFC 9112 §2.2",
        b"\r\n" * 150_000 + get(),
        refused=_LARGE,
    ),
    either(
        "fields-thousand",
        "a thousand small fields",
        _FIELDS,
        get(*(b"X-%d: y" % number for number in range(1_000))),
        refused=_LARGE,
    ),
)
