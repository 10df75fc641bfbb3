"""Request targets: the four forms, percent-encoding, odd bytes. Never an answer of 5xx, never another route's."""

from tests.corpus.case import Case, either, get, refuse, serve

_FORM = "RFC 9112 §3.2"
_PATH = "RFC 3986 §3.3"
_ESCAPE = "RFC 3986 §2.1"
_DOTS = "path traversal"


def _target(target: bytes) -> bytes:
    return get(line=b"GET " + target + b" HTTP/1.1")


def _missing(name: str, sentence: str, source: str, target: bytes) -> Case:
    """A path that no route has, however it is read; refusing it is right too."""
    return either(name, sentence, source, _target(target), statuses=(404,))


def _bad(name: str, sentence: str, target: bytes, source: str = _FORM) -> Case:
    return refuse(name, sentence, source, _target(target))


FORMS = (
    serve(
        "target-absolute",
        "the absolute form must be taken",
        "RFC 9112 §3.2.2",
        _target(b"http://localhost/health/live"),
    ),
    either(
        "target-absolute-other-host",
        "its host counts, not the Host field's, and a stranger's name is refused",
        "RFC 9112 §3.2.2",
        _target(b"http://evil/health/live"),
        statuses=(403, 421),
        refused=(400, 403, 421),
    ),
    either(
        "target-absolute-other-host-field",
        "its host counts; the Host field differs",
        "RFC 9112 §3.2.2",
        get(b"Host: evil", host=None, line=b"GET http://localhost/health/live HTTP/1.1"),
        refused=(400, 403, 421),
    ),
    serve(
        "target-absolute-capitals", "schemes have no case", "RFC 3986 §3.1", _target(b"HTTP://localhost/health/live")
    ),
    serve(
        "target-absolute-with-query",
        "the absolute form with a query",
        "RFC 9112 §3.2.2",
        _target(b"http://localhost/health/live?a=b"),
    ),
    either(
        "target-absolute-https",
        "another scheme than the connection's",
        "RFC 9112 §3.3",
        _target(b"https://localhost/health/live"),
        refused=(400, 421),
    ),
    either(
        "target-absolute-no-path",
        "the absolute form without a path is /",
        "RFC 9112 §3.2.2",
        _target(b"http://localhost"),
        statuses=(200, 307, 404),
    ),
    either(
        "target-absolute-user",
        "a user before the host",
        "RFC 9110 §4.2.4",
        _target(b"http://user@localhost/health/live"),
    ),
    either(
        "target-absolute-ftp",
        "a scheme that is not ours",
        "RFC 9112 §3.3",
        _target(b"ftp://localhost/health/live"),
        refused=(400, 404, 421),
    ),
    _bad("target-absolute-no-host", "the absolute form without a host", b"http:///health/live"),
    _bad(
        "target-absolute-bad-port", "the absolute form with a port that is no number", b"http://localhost:x/health/live"
    ),
    _bad("target-authority", "the authority form is CONNECT's", b"localhost:80"),
    _missing("target-asterisk-of-get", "the asterisk form is OPTIONS's", "RFC 9112 §3.2.4", b"*"),
    either(
        "target-asterisk",
        "OPTIONS about the server as a whole",
        "RFC 9112 §3.2.4",
        get(line=b"OPTIONS * HTTP/1.1"),
        statuses=(200, 204, 404, 405),
    ),
    _bad("target-no-slash", "a path without its slash", b"health/live"),
    _bad("target-query-only", "a query without a path", b"?a=b"),
    either("target-fragment", "a fragment is never sent", _FORM, _target(b"/health/live#part"), statuses=(200, 404)),
)

BYTES = (
    _bad("target-blank", "a blank within the target", b"/health /live"),
    _bad("target-tab", "a tab within the target", b"/health\t/live"),
    _bad("target-nul", "a NUL within the target", b"/health\x00/live"),
    _bad("target-control", "a control byte within the target", b"/health\x01/live"),
    _bad("target-delete", "a DEL within the target", b"/health\x7f/live"),
    _bad("target-cr", "a bare CR within the target", b"/health\r/live"),
    refuse("target-lf", "a bare LF within the target", _FORM, _target(b"/health\n/live"), statuses=(400, 505)),
    _missing("target-utf-8", "UTF-8 that was not escaped", _PATH, "/health/läuft".encode()),
    _missing("target-latin-1", "a byte that is no UTF-8", _PATH, b"/health/l\xe4uft"),
    _missing("target-backslash", "a backslash for a slash", _PATH, b"/health\\live"),
    _missing("target-quotes", "signs that ought to be escaped", _PATH, b'/health/"<live>"'),
    _missing("target-braces", "braces and a bar", _PATH, b"/health/{live}|x"),
)

ESCAPES = (
    serve(
        "escape-letter",
        "an escaped letter is the letter",
        "RFC 3986 §6.2.2.2",
        _target(b"/health/%6Cive"),
        statuses=(200, 404),
    ),
    _missing("escape-nul", "an escaped NUL", _ESCAPE, b"/health/live%00"),
    _missing("escape-nul-before-suffix", "an escaped NUL before a suffix", "null byte", b"/health/live%00.png"),
    _missing("escape-newline", "an escaped CRLF and a field", "response splitting", b"/x%0d%0aX-Evil:%20smuggled"),
    either(
        "escape-slash", "an escaped slash is a part of a name", _ESCAPE, _target(b"/health%2flive"), statuses=(200, 404)
    ),
    _missing("escape-twice", "an escape that was escaped", _ESCAPE, b"/health/%256cive"),
    _missing("escape-not-hex", "two signs that are no digits", _ESCAPE, b"/health/%zz"),
    _missing("escape-cut-off", "a percent sign at the end", _ESCAPE, b"/health/live%"),
    _missing("escape-one-digit", "one digit only", _ESCAPE, b"/health/live%4"),
    _missing("escape-overlong-utf-8", "a slash in overlong UTF-8", "CVE-2000-0884", b"/health%c0%aflive"),
    _missing("escape-no-utf-8", "an escaped byte that is no UTF-8", _ESCAPE, b"/health/%ff"),
    _missing("escape-surrogate", "half a surrogate pair in UTF-8", _ESCAPE, b"/health/%ed%a0%80"),
    _missing("escape-percent-u", "Microsoft's escape", _ESCAPE, b"/health/%u006cive"),
    serve("escape-bad-in-query", "an odd escape in a query", _ESCAPE, _target(b"/health/live?a=%zz&b=%&c=%ff")),
    serve("query-odd", "a query of odd signs", "RFC 3986 §3.4", _target(b"/health/live?&&=&a==b?/c[]")),
    _missing("dots", "dot segments", _DOTS, b"/../../etc/passwd"),
    _missing("dots-escaped", "escaped dot segments", _DOTS, b"/%2e%2e/%2e%2e/etc/passwd"),
    _missing(
        "dots-and-slash-escaped", "escaped dots and slashes after a parameter", _DOTS, b"/v1/assets/..%2f..%2fpasswd"
    ),
    _missing("dots-backslash", "dots and backslashes", _DOTS, b"/..\\..\\windows\\win.ini"),
    either(
        "dots-to-a-route",
        "dot segments that lead to a route",
        "RFC 3986 §5.2.4",
        _target(b"/x/../health/live"),
        statuses=(200, 404),
    ),
    either("slashes-double", "two slashes first are no host", _PATH, _target(b"//health/live"), statuses=(200, 404)),
    either("slashes-within", "an empty segment", _PATH, _target(b"/health//live"), statuses=(200, 404)),
    _missing("slash-at-end", "a slash at the end is another path", _PATH, b"/health/live/"),
    _missing("semicolon", "a parameter of a segment", "path confusion", b"/health/live;.png"),
)

CASES = (*FORMS, *BYTES, *ESCAPES)
