"""The framing of bodies on a route of the ASGI application, which reads its body piece by piece."""

from tests.corpus.case import CHUNKED, HIDDEN, JOB, LAST, Case, chunk, get, post_job, refuse, serve

_LENGTH = b"Content-Length: %d" % len(JOB)
_BODY = "RFC 9112 §6.3"
_CHUNKED = "RFC 9112 §7.1"
_NO_SUCH_MODEL = (422,)
_CHUNKS = chunk(JOB[:20]) + chunk(JOB[20:]) + LAST


def _served(name: str, sentence: str, source: str, *pieces: bytes) -> Case:
    return serve(name, sentence, source, *pieces, statuses=_NO_SUCH_MODEL, says=b"corpus-model")


CASES = (
    _served("job-length", "a body of exactly its Content-Length", _BODY, post_job(_LENGTH, body=JOB)),
    _served("job-chunked", "a chunked body", _CHUNKED, post_job(CHUNKED, body=_CHUNKS)),
    _served(
        "job-pieces",
        "head, size, data and end apart",
        _CHUNKED,
        post_job(CHUNKED, body=b""),
        _CHUNKS[:1],
        _CHUNKS[1:9],
        _CHUNKS[9:-7],
        _CHUNKS[-7:-2],
        _CHUNKS[-2:],
    ),
    _served(
        "job-expect-continue",
        "the caller waits for 100",
        "RFC 9110 §10.1.1",
        post_job(_LENGTH, b"Expect: 100-continue", body=b""),
        JOB,
    ),
    _served(
        "job-upgrade",
        "an ignored upgrade with a body",
        "RFC 9110 §7.8",
        post_job(_LENGTH, b"Connection: upgrade", b"Upgrade: foo", body=JOB),
    ),
    serve(
        "job-then-get",
        "a request right behind the body",
        "RFC 9112 §9.3.2",
        post_job(_LENGTH, body=JOB) + get(),
        before=(422,),
    ),
    serve(
        "get-then-job-in-pieces",
        "a body that waits for its turn",
        "RFC 9112 §9.3.2",
        get() + post_job(CHUNKED, body=_CHUNKS[:9]),
        _CHUNKS[9:],
        before=(200,),
        statuses=_NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    serve(
        "trailer-is-no-field",
        "a trailer of a body that waited for its turn does not become a field of the head",
        "RFC 9110 §6.5.1",
        get() + post_job(CHUNKED, body=_CHUNKS[:-2] + b"X-Request-Id: smuggled\r\n\r\n"),
        before=(200,),
        statuses=_NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    refuse("job-cl-te", "both lengths", "CL.TE", post_job(_LENGTH, CHUNKED, body=_CHUNKS)),
    refuse(
        "job-length-cut",
        "the sender ends within the body",
        "RFC 9112 §8",
        post_job(_LENGTH, body=JOB[:-9]),
        statuses=(400, 408),
        cut=True,
    ),
    refuse(
        "job-chunk-cut",
        "the sender ends within a chunk",
        "RFC 9112 §8",
        post_job(CHUNKED, body=_CHUNKS[:9]),
        statuses=(400, 408),
        cut=True,
    ),
    refuse(
        "job-chunk-data-end-junk",
        "two other bytes after a chunk's data",
        _CHUNKED,
        post_job(CHUNKED, body=chunk(JOB)[:-2] + b"XX" + LAST),
    ),
    refuse(
        "job-chunk-fault-later", "a bad size in a later piece", _CHUNKED, post_job(CHUNKED, body=chunk(JOB)), b"-1\r\n"
    ),
    refuse(
        "job-trailer-hides-request",
        "a request in place of trailers",
        "TE.CL",
        post_job(CHUNKED, body=chunk(JOB) + b"0\r\n" + HIDDEN),
    ),
    refuse(
        "job-fault-behind-good",
        "a good request, then a bad chunk",
        _CHUNKED,
        get() + post_job(CHUNKED, body=chunk(JOB) + b"0\r\nX\r\n"),
        before=(200,),
    ),
    refuse(
        "job-too-large",
        "more than any body may have",
        "RFC 9110 §8.6",
        post_job(b"Content-Length: 100000000000", body=JOB),
        statuses=(400, 413),
    ),
    refuse(
        "job-length-wraps-64-bits",
        "a length over 64 bits",
        "RFC 9110 §8.6",
        post_job(b"Content-Length: 18446744073709551686", body=JOB),
        statuses=(400, 413),
    ),
)
