"""Where a body ends: Content-Length and Transfer-Encoding, and what attackers do with them.

A proxy and a server that disagree about the end of a body let one caller write the next caller's request. Whatever
could be read in two ways is refused.
"""

from tests.corpus.case import (
    BODY,
    CHUNKED,
    CHUNKS,
    HIDDEN,
    LAST,
    LENGTH,
    NO_SUCH_MODEL,
    Case,
    either,
    get,
    post,
    refuse,
    serve,
)

_LENGTH = b"Content-Length: " + LENGTH
_RULE_LENGTH = "RFC 9110 §8.6"
_RULE_CODING = "RFC 9112 §6.1"
_RULE_BODY = "RFC 9112 §6.3"
_NO_CODING = (400, 501)


def _length(name: str, sentence: str, value: bytes, statuses: tuple[int, ...] = (400,)) -> Case:
    """A Content-Length that is not a plain number within bounds."""
    return refuse(name, sentence, _RULE_LENGTH, post(b"Content-Length: " + value, body=BODY), statuses=statuses)


def _hides(name: str, sentence: str, source: str, *fields: bytes, statuses: tuple[int, ...] = _NO_CODING) -> Case:
    """An obscured Transfer-Encoding: read as chunked, the body ends early and a hidden request follows."""
    body = LAST + HIDDEN
    length = b"Content-Length: %d" % len(body)
    return refuse(name, sentence, source, post(length, *fields, body=body), statuses=statuses)


LENGTHS = (
    serve(
        "length-exact",
        "a body of exactly its Content-Length",
        _RULE_LENGTH,
        post(_LENGTH, body=BODY),
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    serve(
        "length-zero",
        "a POST with Content-Length 0 has an empty body",
        _RULE_LENGTH,
        post(b"Content-Length: 0", body=b""),
        statuses=(400, 422),
    ),
    serve(
        "length-missing-on-post",
        "a POST without a length has an empty body; what follows is the next request",
        _RULE_BODY,
        post(body=b""),
        statuses=(400, 411, 422),
        after="any",
    ),
    serve(
        "length-padded-with-blanks",
        "blanks and tabs around the number are no part of it",
        "RFC 9112 §5.1",
        post(b"Content-Length: \t " + LENGTH + b" \t", body=BODY),
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    either(
        "length-leading-zeros",
        "leading zeros are digits, yet some read them as octal",
        _RULE_LENGTH,
        post(b"Content-Length: 000" + LENGTH, body=BODY),
        statuses=NO_SUCH_MODEL,
    ),
    refuse("length-twice-equal", "two equal Content-Length lines", "CL.CL", post(_LENGTH, _LENGTH, body=BODY)),
    refuse(
        "length-twice-different",
        "two Content-Length lines that differ, the rest a hidden request",
        "CL.CL",
        post(b"Content-Length: 0", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
    ),
    refuse(
        "length-twice-different-larger-first",
        "two Content-Length lines that differ, the larger one first",
        "CL.CL",
        post(b"Content-Length: %d" % len(HIDDEN), b"Content-Length: 0", body=HIDDEN),
    ),
    _length("length-list-equal", "a list of two equal lengths", LENGTH + b", " + LENGTH),
    _length("length-list-different", "a list of two lengths that differ", LENGTH + b", 1"),
    _length("length-trailing-comma", "a length and an empty list member", LENGTH + b","),
    _length("length-empty", "an empty Content-Length", b""),
    _length("length-negative", "a negative length", b"-1"),
    _length("length-plus", "a length with a plus sign", b"+" + LENGTH),
    _length("length-hex", "a length in hexadecimal", b"0x43"),
    _length("length-underscore", "a length with an underscore between its digits, as Python's int() takes", b"6_7"),
    _length("length-fraction", "a length with a fraction", LENGTH + b".0"),
    _length("length-exponent", "a length with an exponent", b"67e0"),
    _length("length-two-numbers", "two numbers with a blank between them", b"6 7"),
    _length("length-word", "a length that is a word", b"chunked"),
    _length("length-parameter", "a length with a parameter", LENGTH + b";q=1"),
    _length("length-quoted", "a length in quotes", b'"' + LENGTH + b'"'),
    _length("length-vertical-tab", "a vertical tab before the number", b"\x0b" + LENGTH),
    _length("length-form-feed", "a form feed after the number", LENGTH + b"\x0c"),
    _length("length-nul", "a NUL after the number", LENGTH + b"\x00"),
    _length("length-full-width-digits", "digits that only Unicode calls digits", "６７".encode()),
    _length("length-superscript-digits", "Latin-1 superscripts, digits to Python's str.isdigit()", b"\xb2\xb3"),
    _length("length-over-limit", "more than any body may have", b"100000000000", (400, 413)),
    _length("length-int64-max", "the largest signed 64-bit number", b"9223372036854775807", (400, 413)),
    _length(
        "length-wraps-64-bits", "2^64 more than the body has, which wraps to it", b"18446744073709551683", (400, 413)
    ),
    _length("length-thirty-digits", "a length of thirty digits", b"9" * 30, (400, 413)),
    _length(
        "length-5000-digits",
        "a length of five thousand digits, more than Python's int() takes",
        b"9" * 5000,
        (400, 413, 431),
    ),
    refuse(
        "length-blank-before-colon",
        "a blank between the name and the colon",
        "RFC 9112 §5.1",
        post(b"Content-Length : " + LENGTH, body=BODY),
    ),
    either(
        "length-underscore-name",
        "Content_Length is another field; some gateways turn it into Content-Length",
        "RFC 9110 §5.1",
        post(b"Content_Length: 999", _LENGTH, body=BODY),
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    refuse(
        "body-longer-than-length",
        "what follows the body is no request; the good call before it is answered",
        _RULE_BODY,
        post(_LENGTH, body=BODY + b"junk"),
        before=(404,),
        statuses=(400, 405, 501),
    ),
    refuse(
        "body-shorter-than-length",
        "the sender ends in the middle of the body",
        "RFC 9112 §8",
        post(_LENGTH, body=BODY[:-9]),
        statuses=(400, 408),
        cut=True,
    ),
    serve(
        "get-with-body",
        "a GET may have a body; it is no request",
        "RFC 9110 §9.3.1",
        get(b"Content-Length: %d" % len(HIDDEN)) + HIDDEN,
        after="any",
    ),
    serve(
        "get-with-chunked-body",
        "a GET may have a chunked body; it is no request",
        "RFC 9110 §9.3.1",
        get(CHUNKED) + b"%x\r\n%b\r\n" % (len(HIDDEN), HIDDEN) + LAST,
        after="any",
    ),
    serve(
        "head-with-body",
        "a HEAD may have a body; it is no request",
        "RFC 9110 §9.3.2",
        get(b"Content-Length: %d" % len(HIDDEN), line=b"HEAD /health/live HTTP/1.1") + HIDDEN,
        after="any",
        bodiless=frozenset({0}),
    ),
)

BOTH = (
    refuse(
        "cl-te",
        "both lengths; read by Content-Length the body is longer and hides a request",
        "CL.TE",
        post(b"Content-Length: %d" % len(LAST + HIDDEN), CHUNKED, body=LAST + HIDDEN),
    ),
    refuse(
        "te-cl",
        "both lengths, Transfer-Encoding first; read by Content-Length the body is shorter",
        "TE.CL",
        post(CHUNKED, b"Content-Length: 4", body=b"%x\r\n%b\r\n" % (len(HIDDEN), HIDDEN) + LAST),
    ),
    refuse("te-and-cl-agree", "both lengths, and both right", _RULE_BODY, post(_LENGTH, CHUNKED, body=CHUNKS)),
    refuse("te-and-cl-zero", "chunked and Content-Length 0", "TE.0", post(b"Content-Length: 0", CHUNKED, body=CHUNKS)),
    refuse(
        "get-cl-te",
        "a GET with both lengths",
        "CL.TE",
        get(b"Content-Length: %d" % len(LAST + HIDDEN), CHUNKED) + LAST + HIDDEN,
    ),
    refuse(
        "te-in-http-10",
        "Transfer-Encoding does not exist in HTTP/1.0",
        _RULE_CODING,
        post(CHUNKED, body=CHUNKS, version=b"HTTP/1.0"),
    ),
    refuse(
        "cl-te-in-http-10",
        "both lengths in HTTP/1.0 with keep-alive",
        _RULE_CODING,
        post(
            b"Connection: keep-alive",
            b"Content-Length: %d" % len(LAST + HIDDEN),
            CHUNKED,
            body=LAST + HIDDEN,
            version=b"HTTP/1.0",
        ),
    ),
)

CODINGS = (
    serve(
        "te-chunked",
        "a chunked body",
        "RFC 9112 §7.1",
        post(CHUNKED, body=CHUNKS),
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    serve(
        "te-chunked-in-capitals",
        "names of codings have no case",
        "RFC 9112 §7",
        post(b"TRANSFER-ENCODING: CHUNKED", body=CHUNKS),
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    either(
        "te-tab-before-value",
        "a tab before the value is allowed",
        "TE.TE",
        post(b"Transfer-Encoding:\tchunked", body=CHUNKS),
        statuses=NO_SUCH_MODEL,
        refused=_NO_CODING,
    ),
    either(
        "te-blanks-after-value",
        "blanks and tabs after the value are allowed",
        "TE.TE",
        post(b"Transfer-Encoding: chunked \t ", body=CHUNKS),
        statuses=NO_SUCH_MODEL,
        refused=_NO_CODING,
    ),
    either(
        "te-empty-list-member",
        "an empty member before chunked is allowed",
        "RFC 9110 §5.6.1",
        post(b"Transfer-Encoding: , chunked", body=CHUNKS),
        statuses=NO_SUCH_MODEL,
        refused=_NO_CODING,
    ),
    _hides("te-vertical-tab", "a vertical tab before the value", "TE.TE", b"Transfer-Encoding: \x0bchunked"),
    _hides("te-form-feed", "a form feed after the value", "TE.TE", b"Transfer-Encoding: chunked\x0c"),
    _hides("te-nul", "a NUL after the value", "TE.TE", b"Transfer-Encoding: chunked\x00"),
    _hides(
        "te-no-break-space", "a Latin-1 no-break space before the value", "TE.TE", b"Transfer-Encoding: \xa0chunked"
    ),
    _hides("te-double-quoted", "the coding in double quotes", "TE.TE", b'Transfer-Encoding: "chunked"'),
    _hides("te-single-quoted", "the coding in single quotes", "TE.TE", b"Transfer-Encoding: 'chunked'"),
    _hides("te-xchunked", "a coding that ends in the word", "TE.TE", b"Transfer-Encoding: xchunked"),
    _hides("te-chunkedx", "a coding that begins with the word", "TE.TE", b"Transfer-Encoding: chunkedx"),
    _hides("te-chunk", "a coding that the word begins with", "TE.TE", b"Transfer-Encoding: chunk"),
    _hides("te-parameter", "chunked has no parameters", "RFC 9112 §7.1", b"Transfer-Encoding: chunked;q=1"),
    _hides("te-identity", "identity was removed from HTTP", "RFC 9112 §7", b"Transfer-Encoding: identity"),
    _hides(
        "te-chunked-identity", "chunked is not the last coding", _RULE_BODY, b"Transfer-Encoding: chunked, identity"
    ),
    _hides("te-identity-chunked", "identity before chunked", "TE.TE", b"Transfer-Encoding: identity, chunked"),
    _hides("te-chunked-twice", "chunked over chunked", _RULE_CODING, b"Transfer-Encoding: chunked, chunked"),
    _hides("te-gzip", "a coding that we do not take, and no chunked after it", _RULE_BODY, b"Transfer-Encoding: gzip"),
    _hides("te-empty", "an empty Transfer-Encoding", "TE.TE", b"Transfer-Encoding:"),
    _hides("te-line-twice", "two lines of chunked", "TE.TE", CHUNKED, CHUNKED),
    _hides("te-chunked-then-identity", "two lines that differ", "TE.TE", CHUNKED, b"Transfer-Encoding: identity"),
    _hides(
        "te-identity-then-chunked", "two lines that differ, chunked last", "TE.TE", b"Transfer-Encoding: x", CHUNKED
    ),
    _hides("te-blank-before-colon", "a blank before the colon", "TE.TE", b"Transfer-Encoding : chunked"),
    _hides("te-tab-before-colon", "a tab before the colon", "TE.TE", b"Transfer-Encoding\t: chunked"),
    _hides("te-blank-before-name", "a blank before the name", "TE.TE", b" Transfer-Encoding: chunked"),
    _hides("te-folded", "the value on a folded line", "RFC 9112 §5.2", b"Transfer-Encoding:\r\n chunked"),
    _hides(
        "te-folded-into-another", "folded into the field before it", "TE.TE", b"X: y\r\n Transfer-Encoding: chunked"
    ),
    _hides("te-after-bare-lf", "hidden after a bare LF in a value", "TE.TE", b"X: y\nTransfer-Encoding: chunked"),
    _hides("te-after-bare-cr", "hidden after a bare CR in a value", "TE.TE", b"X: y\rTransfer-Encoding: chunked"),
    _hides("te-before-bare-cr", "a bare CR at the end of the value", "TE.TE", b"Transfer-Encoding: chunked\r\r\nX: y"),
    refuse(
        "te-gzip-chunked",
        "gzip inside chunked: a coding that we do not take",
        _RULE_CODING,
        post(b"Transfer-Encoding: gzip, chunked", body=CHUNKS),
        statuses=_NO_CODING,
    ),
    either(
        "te-underscore-name",
        "Transfer_Encoding is another field; some gateways turn it into Transfer-Encoding",
        "TE.TE",
        post(b"Transfer_Encoding: chunked", _LENGTH, body=BODY),
        statuses=NO_SUCH_MODEL,
        says=b"corpus-model",
    ),
    serve(
        "accepts-trailers",
        "TE says what the caller takes, not how its body is sent",
        "RFC 9110 §10.1.4",
        get(b"TE: trailers, chunked", b"Connection: TE"),
    ),
)

CASES = (*LENGTHS, *BOTH, *CODINGS)
