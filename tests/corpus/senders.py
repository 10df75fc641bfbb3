"""Who is at the other end: other protocols on this port, senders that end too early, slow ones."""

from tests.corpus.case import BODY, HIDDEN, LENGTH, NO_SUCH_MODEL, Case, get, post, refuse, serve

_LENGTH = b"Content-Length: " + LENGTH


def _foreign(name: str, sentence: str, source: str, data: bytes) -> Case:
    """Another protocol on this port; it may wait for an answer that never comes, so the sender ends."""
    return refuse(name, sentence, source, data, statuses=(400, 405, 408, 501, 505), cut=True)


FOREIGN = (
    _foreign(
        "tls-hello",
        "a TLS client on the plain port",
        "RFC 8446 §4.1.2",
        bytes.fromhex("1603010200010001fc0303") + bytes(range(200)) + bytes(309),
    ),
    _foreign("ssh", "an SSH client", "RFC 4253 §4.2", b"SSH-2.0-OpenSSH_9.2\r\n"),
    _foreign("smtp", "a mail client", "cross-protocol", b"EHLO corpus\r\nMAIL FROM:<a@b>\r\n"),
    _foreign("socks-5", "a SOCKS 5 client", "RFC 1928 §3", b"\x05\x01\x00"),
    _foreign("socks-4", "a SOCKS 4 client", "SOCKS 4", b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00"),
    _foreign("redis", "a Redis client", "cross-protocol", b"*1\r\n$4\r\nPING\r\n"),
    _foreign(
        "postgres-ssl", "a PostgreSQL client that asks for TLS", "cross-protocol", bytes.fromhex("0000000804d2162f")
    ),
    _foreign("rdp", "a remote desktop client", "cross-protocol", bytes.fromhex("0300002f2ae00000000000")),
    _foreign("nul-bytes", "a kilobyte of NUL", "cross-protocol", bytes(1024)),
    _foreign("high-bytes", "bytes above ASCII", "cross-protocol", bytes(range(128, 256)) * 4),
    refuse(
        "proxy-protocol",
        "a PROXY line that nobody allowed",
        "PROXY protocol v1",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + get(),
        statuses=(400, 405, 501, 505),
    ),
    _foreign(
        "proxy-protocol-v2",
        "a binary PROXY header",
        "PROXY protocol v2",
        bytes.fromhex("0d0a0d0a000d0a515549540a20000000") + get(),
    ),
    refuse(
        "an-answer",
        "an answer in place of a request",
        "RFC 9112 §2.1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        statuses=(400, 501),
    ),
)

CUT = (
    serve("nothing", "a connection without a byte", "RFC 9112 §9.5", cut=True, silent=True, after="closed"),
    serve("crlf-only", "an empty line and the end", "RFC 9112 §2.2", b"\r\n", cut=True, silent=True, after="closed"),
    refuse("cut-in-method", "the sender ends within the method", "RFC 9112 §8", b"GE", statuses=(400, 408), cut=True),
    refuse(
        "cut-in-line",
        "the sender ends within the request line",
        "RFC 9112 §8",
        b"GET /hea",
        statuses=(400, 408),
        cut=True,
    ),
    refuse("cut-in-field", "the sender ends within a field", "RFC 9112 §8", get()[:-9], statuses=(400, 408), cut=True),
    refuse(
        "cut-before-empty-line",
        "the sender ends before the empty line",
        "RFC 9112 §8",
        get()[:-2],
        statuses=(400, 408),
        cut=True,
    ),
    refuse(
        "cut-after-good",
        "a good request, then half a one",
        "RFC 9112 §8",
        get(),
        b"GET /smug",
        before=(200,),
        statuses=(400, 408),
        cut=True,
    ),
)

SLOW = (
    serve("slow-bytes", "a request byte by byte", "RFC 9112 §2.2", *(bytes([byte]) for byte in get())),
    serve(
        "slow-crlf",
        "a piece ends between CR and LF",
        "RFC 9112 §2.2",
        get()[:26],
        get()[26:27],
        get()[27:-3],
        get()[-3:-2],
        get()[-2:-1],
        get()[-1:],
    ),
    serve(
        "slow-body",
        "a body byte by byte",
        "RFC 9112 §6.3",
        post(_LENGTH, body=b""),
        *(bytes([byte]) for byte in BODY),
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    serve(
        "slow-between",
        "head and body apart",
        "RFC 9112 §6.3",
        post(_LENGTH, body=b""),
        BODY,
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    refuse(
        "slow-smuggling",
        "both lengths, in pieces",
        "CL.TE",
        post(_LENGTH, body=b"")[:-2] + b"Transfer-Enc",
        b"oding: chun",
        b"ked\r\n",
        b"\r\n0\r\n",
        b"\r\n" + HIDDEN,
    ),
)

CASES = (*FOREIGN, *CUT, *SLOW)
