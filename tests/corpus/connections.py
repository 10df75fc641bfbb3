"""What becomes of the connection: persistence, pipelining, Expect, Upgrade."""

from tests.corpus.case import (
    BODY,
    CHUNKED,
    CHUNKS,
    HIDDEN,
    LENGTH,
    NO_SUCH_MODEL,
    After,
    Case,
    either,
    get,
    post,
    refuse,
    serve,
)

_PERSISTENCE = "RFC 9112 §9.3"
_PIPELINE = "RFC 9112 §9.3.2"
_CONNECTION = "RFC 9110 §7.6.1"
_UPGRADE = "RFC 9110 §7.8"
_EXPECT = "RFC 9110 §10.1.1"
_LENGTH = b"Content-Length: " + LENGTH
_CALL = post(_LENGTH, body=BODY)
_HTTP_10 = b"GET /health/live HTTP/1.0"
_CLOSE = b"Connection: close"


def _kept(name: str, sentence: str, after: After, *fields: bytes, line: bytes = b"GET /health/live HTTP/1.1") -> Case:
    return serve(name, sentence, _CONNECTION, get(*fields, line=line), after=after)


PERSISTENCE = (
    _kept("close", "the caller wants to close", "closed", _CLOSE),
    _kept("close-in-capitals", "options have no case", "closed", b"Connection: CLOSE"),
    _kept("close-and-keep-alive", "close wins", "closed", b"Connection: keep-alive, close"),
    _kept("close-among-others", "close among other options", "closed", b"Connection: x, close ,y"),
    _kept("close-on-second-line", "two lines are one list", "closed", b"Connection: keep-alive", _CLOSE),
    _kept("connection-unknown", "an option that nobody knows", "open", b"Connection: xclose, close-not"),
    _kept("connection-empty", "an empty list", "open", b"Connection: , ,"),
    _kept("connection-names-host", "an option that is a needed field's name", "open", b"Connection: host"),
    _kept("keep-alive-in-http-10", "HTTP/1.0 may keep the connection", "any", b"Connection: keep-alive", line=_HTTP_10),
    _kept("keep-alive-and-close-in-http-10", "close wins", "closed", b"Connection: keep-alive, close", line=_HTTP_10),
    _kept("keep-alive-parameters", "Keep-Alive's own field", "open", b"Keep-Alive: timeout=5, max=1"),
    serve(
        "connection-names-length",
        "Content-Length as a hop-by-hop field still counts",
        "hop-by-hop abuse",
        post(_LENGTH, b"Connection: content-length", body=BODY),
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    serve(
        "connection-names-coding",
        "Transfer-Encoding as a hop-by-hop field still counts",
        "hop-by-hop abuse",
        post(CHUNKED, b"Connection: transfer-encoding", body=CHUNKS),
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    serve(
        "proxy-connection",
        "a field that never was a standard",
        "RFC 9112 §C.2.2",
        get(b"Proxy-Connection: close"),
        after="any",
    ),
)

PIPELINES = (
    serve("pipeline-two", "two requests at once", _PIPELINE, get() + get(), before=(200,)),
    serve("pipeline-thirty", "thirty requests at once", _PIPELINE, get() * 30, before=(200,) * 29),
    serve("pipeline-after-body", "a request right behind a body", _PIPELINE, _CALL + get(), before=(404,)),
    serve(
        "pipeline-after-chunks",
        "a request right behind a chunked body",
        _PIPELINE,
        post(CHUNKED, body=CHUNKS) + get(),
        before=(404,),
    ),
    serve(
        "pipeline-before-body",
        "a request with a body behind one without",
        _PIPELINE,
        get() + _CALL,
        before=(200,),
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    serve(
        "pipeline-split-in-second",
        "the second request arrives in two pieces",
        _PIPELINE,
        get() + _CALL[:30],
        _CALL[30:-10],
        _CALL[-10:],
        before=(200,),
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    serve(
        "pipeline-head-first",
        "HEAD, then GET",
        "RFC 9112 §6.3",
        get(line=b"HEAD /health/live HTTP/1.1") + get(),
        before=(200,),
        bodiless=frozenset({0}),
    ),
    serve(
        "pipeline-after-close",
        "what follows close is not answered",
        "RFC 9112 §9.6",
        get(_CLOSE) + HIDDEN,
        after="closed",
    ),
    serve(
        "pipeline-after-http-10",
        "what follows an HTTP/1.0 request is not answered",
        "RFC 9112 §9.3",
        get(line=_HTTP_10) + HIDDEN,
        after="closed",
    ),
    serve(
        "pipeline-after-error",
        "an error of a handler ends nothing",
        _PIPELINE,
        get(line=b"GET /nowhere HTTP/1.1") + get(),
        before=(404,),
    ),
    refuse(
        "pipeline-good-then-bad",
        "a good request, then a bad one",
        _PIPELINE,
        get() + b"junk\r\n\r\n",
        before=(200,),
        statuses=(400, 405, 501),
    ),
    refuse(
        "pipeline-good-then-smuggling",
        "a good request, then both lengths",
        "CL.TE",
        get() + post(_LENGTH, CHUNKED, body=CHUNKS),
        before=(200,),
    ),
    refuse(
        "pipeline-fault-in-waiting-body",
        "a good request, then a chat call whose last trailer is bad, before its turn",
        _PIPELINE,
        get() + post(CHUNKED, body=CHUNKS[:-2] + b"X\r\n") + get(),
        before=(200,),
    ),
    refuse(
        "pipeline-bad-then-good",
        "nothing after a refusal is answered",
        _PIPELINE,
        b"junk\r\n\r\n" + HIDDEN,
        statuses=(400, 405, 501),
    ),
    refuse(
        "pipeline-good-bad-good",
        "one answer, one refusal, and no more",
        _PIPELINE,
        get() + get(b"X : y") + HIDDEN,
        before=(200,),
    ),
)

UPGRADES = (
    serve(
        "upgrade-h2c",
        "an upgrade to HTTP/2 may be ignored",
        "RFC 7540 §3.2",
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
    ),
    serve(
        "upgrade-h2c-with-body",
        "the body is still a body",
        "h2c smuggling",
        post(_LENGTH, b"Connection: Upgrade", b"Upgrade: h2c", body=BODY),
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    serve(
        "upgrade-body-hides-request",
        "an ignored upgrade; its body is no request",
        "h2c smuggling",
        post(b"Content-Length: %d" % len(HIDDEN), b"Connection: Upgrade", b"Upgrade: h2c", body=HIDDEN),
        statuses=(400,),
    ),
    serve(
        "upgrade-unknown",
        "an upgrade to what nobody knows",
        _UPGRADE,
        get(b"Connection: upgrade", b"Upgrade: smuggled/1"),
    ),
    serve("upgrade-tls", "an upgrade to TLS", "RFC 2817", get(b"Connection: upgrade", b"Upgrade: TLS/1.0")),
    serve(
        "upgrade-without-connection", "no upgrade without the Connection option", _UPGRADE, get(b"Upgrade: websocket")
    ),
    serve("connection-upgrade-alone", "the option without the field", _UPGRADE, get(b"Connection: upgrade")),
    serve(
        "upgrade-then-pipeline",
        "an ignored upgrade, then a request",
        _UPGRADE,
        get(b"Connection: upgrade", b"Upgrade: foo") + get(),
        before=(200,),
    ),
    serve(
        "upgrade-chunked",
        "an ignored upgrade with a chunked body",
        _UPGRADE,
        post(CHUNKED, b"Connection: upgrade", b"Upgrade: foo", body=CHUNKS),
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    either(
        "upgrade-websocket-on-plain-route",
        "a WebSocket where none is",
        "RFC 6455 §4.2.2",
        get(
            b"Connection: upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ),
        statuses=(200, 400, 403, 404, 426),
        refused=(400, 403, 404, 426),
        after="any",
    ),
    either(
        "upgrade-websocket-bad-version",
        "a WebSocket of a version that never was",
        "RFC 6455 §4.4",
        get(
            b"Connection: upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Version: 0",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ),
        statuses=(200, 400, 403, 404, 426),
        refused=(400, 403, 404, 426),
        after="any",
    ),
)

EXPECTS = (
    serve(
        "expect-continue",
        "the caller waits for 100; the body comes later",
        _EXPECT,
        post(_LENGTH, b"Expect: 100-continue", body=b""),
        BODY,
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    serve(
        "expect-continue-at-once",
        "the caller does not wait",
        _EXPECT,
        post(_LENGTH, b"Expect: 100-continue", body=BODY),
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    serve(
        "expect-continue-capitals",
        "expectations have no case",
        _EXPECT,
        post(_LENGTH, b"Expect: 100-Continue", body=BODY),
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    serve(
        "expect-continue-chunked",
        "a chunked body after 100",
        _EXPECT,
        post(CHUNKED, b"Expect: 100-continue", body=b""),
        CHUNKS,
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    serve("expect-without-body", "an expectation and no body", _EXPECT, get(b"Expect: 100-continue")),
    serve(
        "expect-in-http-10",
        "HTTP/1.0 knows no 100",
        _EXPECT,
        post(_LENGTH, b"Expect: 100-continue", body=BODY, version=b"HTTP/1.0"),
        statuses=NO_SUCH_MODEL,
        after="closed",
        says=b"corpus-model",
    ),
    either(
        "expect-unknown",
        "an expectation that nobody knows",
        _EXPECT,
        get(b"Expect: 200-ok"),
        refused=(400, 417),
        statuses=(200, 417),
    ),
    either(
        "expect-list",
        "100-continue and one more",
        _EXPECT,
        get(b"Expect: 100-continue, x"),
        refused=(400, 417),
        statuses=(200, 417),
    ),
    refuse(
        "expect-and-too-large",
        "too much is refused before it is sent",
        _EXPECT,
        post(b"Content-Length: 999999999999", b"Expect: 100-continue", body=b""),
        statuses=(413,),
    ),
)

CASES = (*PERSISTENCE, *PIPELINES, *UPGRADES, *EXPECTS)
