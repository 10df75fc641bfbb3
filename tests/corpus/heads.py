"""Request lines and header fields: methods, versions, line ends, names, values, Host."""

from tests.corpus.case import BODY, HIDDEN, HOST, LENGTH, NO_SUCH_MODEL, Case, either, get, post, refuse, serve

_LINE = "RFC 9112 §3"
_PARSING = "RFC 9112 §2.2"
_VERSION = "RFC 9112 §2.3"
_METHOD = "RFC 9110 §9.1"
_FIELD = "RFC 9112 §5"
_NAME = "RFC 9110 §5.1"
_VALUE = "RFC 9110 §5.5"
_HOST = "RFC 9112 §3.2"
_METHODS = (400, 405, 501)
_VERSIONS = (400, 505)


def _line(name: str, sentence: str, line: bytes, statuses: tuple[int, ...] = (400,), source: str = _LINE) -> Case:
    return refuse(name, sentence, source, get(line=line), statuses=statuses)


def _version(name: str, sentence: str, version: bytes) -> Case:
    return _line(name, sentence, b"GET /health/live " + version, _VERSIONS, _VERSION)


def _field(name: str, sentence: str, field: bytes, source: str = _FIELD) -> Case:
    """A bad field line; what hides in it must not count."""
    return refuse(name, sentence, source, get(field))


def _host(name: str, sentence: str, *fields: bytes) -> Case:
    return refuse(name, sentence, _HOST, get(*fields, host=None))


METHODS = (
    serve("get", "a plain GET", _METHOD, get()),
    serve(
        "head",
        "the head of what GET answers, and no body",
        "RFC 9110 §9.3.2",
        get(line=b"HEAD /health/live HTTP/1.1"),
        bodiless=frozenset({0}),
    ),
    serve(
        "options",
        "OPTIONS on a path",
        "RFC 9110 §9.3.7",
        get(line=b"OPTIONS /health/live HTTP/1.1"),
        statuses=(200, 204),
    ),
    serve(
        "delete-where-not-allowed",
        "a known method that the path does not have",
        "RFC 9110 §15.5.6",
        get(line=b"DELETE /health/live HTTP/1.1"),
        statuses=(405,),
    ),
    either(
        "method-of-webdav",
        "a registered method that nobody here knows",
        _METHOD,
        get(line=b"PROPFIND /health/live HTTP/1.1"),
        statuses=(405, 501),
        refused=_METHODS,
    ),
    either(
        "trace",
        "TRACE would send back what a proxy added",
        "RFC 9110 §9.3.8",
        get(b"X-Secret: smuggled", line=b"TRACE /health/live HTTP/1.1"),
        statuses=(405, 501),
        refused=_METHODS,
    ),
    _line("connect", "no tunnels here", b"CONNECT localhost:443 HTTP/1.1", (400, 404, 405, 501), "RFC 9110 §9.3.6"),
    either(
        "connect-on-a-path",
        "CONNECT with a path; what follows is no tunnel",
        "RFC 9110 §9.3.6",
        get(line=b"CONNECT /health/live HTTP/1.1"),
        statuses=(405, 501),
        refused=_METHODS,
    ),
    _line("method-in-small-letters", "methods have case", b"get /health/live HTTP/1.1", _METHODS, _METHOD),
    _line("method-unknown", "a method that does not exist", b"BREW /health/live HTTP/1.1", _METHODS, _METHOD),
    _line("method-begins-as-another", "GETX is not GET", b"GETX /health/live HTTP/1.1", _METHODS, _METHOD),
    _line("method-cut-off", "GE is not GET", b"GE /health/live HTTP/1.1", _METHODS, _METHOD),
    _line("method-empty", "a request line that begins with a blank", b" /health/live HTTP/1.1", _METHODS),
    _line("method-no-token", "an at sign in the method", b"G@T /health/live HTTP/1.1", _METHODS, _METHOD),
    _line("method-colon", "a field line in place of a request line", b"GET: /health/live HTTP/1.1", _METHODS, _METHOD),
    _line("method-nul", "a NUL in the method", b"GE\x00T /health/live HTTP/1.1", _METHODS),
    _line(
        "method-non-ascii", "a Cyrillic letter in the method", "GЕT /health/live HTTP/1.1".encode(), _METHODS, _METHOD
    ),
    _line(
        "method-of-100-kb", "a method of 100 KB", b"A" * 100_000 + b" / HTTP/1.1", (400, 405, 414, 431, 501), _METHOD
    ),
)

VERSIONS = (
    serve(
        "http-10",
        "HTTP/1.0 closes unless asked to keep the connection",
        "RFC 9112 §9.3",
        get(line=b"GET /health/live HTTP/1.0"),
        after="closed",
    ),
    refuse("http-09", "a request line without a version", _VERSION, b"GET /health/live\r\n\r\n", statuses=_VERSIONS),
    refuse(
        "http-09-with-fields", "no version, yet fields", _VERSION, get(line=b"GET /health/live"), statuses=_VERSIONS
    ),
    _version("http-09-named", "HTTP/0.9 has no such line", b"HTTP/0.9"),
    either(
        "http-12",
        "a higher minor version may be answered as 1.1",
        _VERSION,
        get(line=b"GET /health/live HTTP/1.2"),
        refused=_VERSIONS,
    ),
    _version("http-20", "HTTP/2 has no request line", b"HTTP/2.0"),
    _version("http-30", "nor has HTTP/3", b"HTTP/3.0"),
    _version("version-two-digits", "a minor version of two digits", b"HTTP/1.10"),
    _version("version-leading-zero", "a major version of two digits", b"HTTP/01.1"),
    _version("version-no-minor", "no minor version", b"HTTP/1"),
    _version("version-small-letters", "the name has case", b"http/1.1"),
    _version("version-comma", "a comma for the dot", b"HTTP/1,1"),
    _version("version-huge", "a version larger than any number", b"HTTP/99999999999999999999.1"),
    _version("version-junk-after", "a letter after the version", b"HTTP/1.1x"),
    either(
        "version-other-protocol",
        "another protocol's name",
        _VERSION,
        get(line=b"GET /health/live RTSP/1.0"),
        refused=_VERSIONS,
        after="any",
    ),
    _version("version-https", "a scheme in place of the protocol", b"HTTPS/1.1"),
    refuse(
        "http2-preface",
        "an HTTP/2 client that did not ask first",
        "RFC 9113 §3.4",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"),
        statuses=(400, 405, 501, 505),
    ),
)

LINES = (
    either("line-two-blanks", "two blanks after the method", _LINE, get(line=b"GET  /health/live HTTP/1.1")),
    either(
        "line-two-blanks-before-version",
        "two blanks before the version",
        _LINE,
        get(line=b"GET /health/live  HTTP/1.1"),
    ),
    _line("line-tabs", "tabs for blanks", b"GET\t/health/live\tHTTP/1.1", _METHODS),
    either(
        "line-blank-at-end",
        "a blank after the version",
        _LINE,
        get(line=b"GET /health/live HTTP/1.1 "),
        refused=_VERSIONS,
    ),
    _line("line-no-target", "no target", b"GET HTTP/1.1"),
    _line("line-no-target-two-blanks", "an empty target", b"GET  HTTP/1.1"),
    _line("line-fourth-word", "a word after the version", b"GET /health/live HTTP/1.1 more", _VERSIONS),
    _line("line-two-versions", "a version within the target", b"GET /health/live HTTP/1.1 HTTP/1.1"),
    _line("line-version-in-cr", "a bare CR before the version", b"GET /health/live\rHTTP/1.1"),
    serve("crlf-before-request", "an empty line before the request line", _PARSING, b"\r\n" + get()),
    serve(
        "crlf-between-requests", "an empty line between two requests", _PARSING, get() + b"\r\n" + get(), before=(200,)
    ),
    either("crlf-thousandfold", "a thousand empty lines", _PARSING, b"\r\n" * 1_000 + get()),
    either("lf-before-request", "a bare LF before the request line", _PARSING, b"\n" + get()),
    refuse("cr-before-request", "a bare CR before the request line", _PARSING, b"\rX" + get(), statuses=_METHODS),
    either("lf-ends-every-line", "every line ends with a bare LF", _PARSING, get().replace(b"\r\n", b"\n")),
    either("lf-ends-request-line", "the request line ends with a bare LF", _PARSING, get().replace(b"\r\n", b"\n", 1)),
    either("lf-ends-head", "the empty line is a bare LF", _PARSING, get()[:-2] + b"\n"),
    refuse(
        "cr-ends-every-line", "every line ends with a bare CR", _PARSING, get().replace(b"\r\n", b"\r") + b"\r\n\r\n"
    ),
    refuse(
        "lf-ends-head-with-body",
        "a bare LF ends the head of a request with a body",
        "TE.TE",
        post(b"Content-Length: " + LENGTH, body=b"").removesuffix(b"\r\n") + b"\n" + BODY,
        statuses=(400,),
    ),
    refuse("byte-order-mark", "a byte order mark first", _PARSING, b"\xef\xbb\xbf" + get(), statuses=_METHODS),
    refuse("utf-16", "the request in UTF-16", _PARSING, get().decode().encode("utf-16-le"), statuses=(400, 405, 501)),
)

FIELDS = (
    serve("field-empty", "an empty value", _VALUE, get(b"X-Empty:")),
    serve("field-no-blank", "no blank after the colon", _FIELD, get(b"X-Close:value")),
    serve("field-colons", "colons within a value", _VALUE, get(b"X-Time: 12:30:00")),
    serve("field-tab-within", "a tab within a value", _VALUE, get(b"X-Tab: one\ttwo")),
    serve("field-latin-1", "bytes above ASCII in a value", _VALUE, get(b"X-Name: Jos\xe9")),
    serve("field-utf-8", "UTF-8 in a value", _VALUE, get("X-Name: 水門".encode())),
    serve("field-odd-name", "every sign that a name may have", "RFC 9110 §5.6.2", get(b"!#$%&'*+-.^_`|~09aZ: x")),
    serve("field-of-4-kb", "a value of 4 KB", _FIELD, get(b"X-Long: " + b"a" * 4_000)),
    serve("fields-fifty", "fifty fields", _FIELD, get(*(b"X-%d: y" % number for number in range(50)))),
    serve(
        "field-blanks-around", "many blanks around a value", _FIELD, get(b"X-Wide:" + b" " * 500 + b"x" + b" " * 500)
    ),
    serve(
        "request-id-injection",
        "an X-Request-Id that is not sane is not sent back",
        "header injection",
        get(b"X-Request-Id: <script>smuggled</script>"),
    ),
    serve("request-id-twice", "two X-Request-Id lines", "RFC 9110 §5.3", get(b"X-Request-Id: a", b"X-Request-Id: b")),
    _field("field-blank-before-colon", "a blank before the colon", b"X-Odd : y", "RFC 9112 §5.1"),
    _field("field-tab-before-colon", "a tab before the colon", b"X-Odd\t: y", "RFC 9112 §5.1"),
    _field("field-blank-in-name", "a blank within the name", b"X Odd: y", _NAME),
    _field("field-no-colon", "a line without a colon", b"X-Odd"),
    _field("field-name-empty", "no name", b": y", _NAME),
    _field("field-folded", "a folded line", b"X-Odd: y\r\n more", "RFC 9112 §5.2"),
    _field("field-folded-by-tab", "a line folded by a tab", b"X-Odd: y\r\n\tmore", "RFC 9112 §5.2"),
    _field("field-folded-empty", "a folded line of blanks only", b"X-Odd: y\r\n  ", "RFC 9112 §5.2"),
    refuse("field-blank-before-first", "a blank before the first field", _PARSING, get(b" X-Odd: y", HOST, host=None)),
    _field("field-name-nul", "a NUL in a name", b"X\x00Odd: y", _NAME),
    _field("field-name-control", "a control byte in a name", b"X\x01Odd: y", _NAME),
    _field("field-name-delete", "a DEL in a name", b"X\x7fOdd: y", _NAME),
    _field("field-name-non-ascii", "a byte above ASCII in a name", b"X-Odd\xe9: y", _NAME),
    _field("field-name-brackets", "brackets in a name", b"X[Odd]: y", _NAME),
    _field("field-name-quoted", "a name in quotes", b'"X-Odd": y', _NAME),
    _field("field-value-nul", "a NUL in a value", b"X-Odd: a\x00b", _VALUE),
    _field("field-value-cr", "a bare CR in a value", b"X-Odd: a\rb", _VALUE),
    _field("field-value-cr-at-end", "a bare CR at the end of a value", b"X-Odd: a\r", _VALUE),
    _field("field-value-cr-hides-field", "a field after a bare CR", b"X-Odd: a\rContent-Length: 40", _VALUE),
    either("field-after-lf", "a field after a bare LF", _PARSING, get(b"X-Odd: a\nX-Even: b")),
    refuse(
        "request-after-lf",
        "a hidden request after bare LFs in a value",
        "request splitting",
        get(b"X-Odd: a\n\n" + HIDDEN[:-4]),
    ),
    either("field-value-control", "a control byte in a value", _VALUE, get(b"X-Odd: a\x01b")),
    either("field-value-delete", "a DEL in a value", _VALUE, get(b"X-Odd: a\x7fb")),
    either("field-value-escape", "a terminal's escape in a value", _VALUE, get(b"X-Odd: \x1b[31m")),
)

HOSTS = (
    _host("host-missing", "no Host in HTTP/1.1"),
    serve(
        "host-missing-in-http-10",
        "no Host in HTTP/1.0",
        _HOST,
        get(line=b"GET /health/live HTTP/1.0", host=None),
        after="closed",
    ),
    _host("host-twice-equal", "two equal Host lines", HOST, HOST),
    _host("host-twice-different", "two Host lines that differ", HOST, b"Host: evil"),
    _host("host-list", "a list of hosts", b"Host: localhost, evil"),
    either("host-empty", "an empty Host", _HOST, get(b"Host:", host=None), statuses=(200, 403)),
    serve("host-with-port", "a host and a port", _HOST, get(b"Host: localhost:8000", host=None)),
    serve("host-ipv6", "an IPv6 address and a port", _HOST, get(b"Host: [::1]:8000", host=None)),
    serve("host-in-small-letters", "names of fields have no case", _NAME, get(b"hOST: localhost", host=None)),
    _host("host-blank-within", "a blank in the host", b"Host: local host"),
    _host("host-path", "a path after the host", b"Host: localhost/health"),
    _host("host-user", "a user before the host", b"Host: user@localhost"),
    _host("host-scheme", "a scheme before the host", b"Host: http://localhost"),
    _host("host-port-word", "a port that is no number", b"Host: localhost:http"),
    _host("host-port-minus", "a negative port", b"Host: localhost:-1"),
    _host("host-two-ports", "two ports", b"Host: localhost:80:81"),
    _host("host-bracket-open", "an IPv6 address without its end", b"Host: [::1"),
    _host("host-query", "a query after the host", b"Host: localhost?x"),
    _host("host-fragment", "a fragment after the host", b"Host: localhost#x"),
    _host("host-backslash", "a backslash in the host", b"Host: localhost\\evil"),
    _host("host-script", "angle brackets in the host", b"Host: <script>"),
    _host("host-nul", "a NUL in the host", b"Host: localhost\x00evil"),
    refuse(
        "host-that-was-a-target",
        "a host that is no host, although it was a good target just before",
        _HOST,
        get() + get(b"Host: /health/live", host=None),
        before=(200,),
    ),
    either(
        "host-non-ascii",
        "bytes above ASCII in the host",
        _HOST,
        get("Host: löcalhost".encode(), host=None),
        statuses=(403,),
    ),
    either(
        "host-port-too-large", "a port over 65535", _HOST, get(b"Host: localhost:99999", host=None), statuses=(200, 403)
    ),
    serve(
        "host-after-body-length",
        "Host need not be the first field",
        _HOST,
        get(b"Content-Length: " + LENGTH, HOST, host=None, line=b"POST /v1/chat/completions HTTP/1.1") + BODY,
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
)

CASES = (*METHODS, *VERSIONS, *LINES, *FIELDS, *HOSTS)
