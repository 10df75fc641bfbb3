"""What one case of the corpus is, and the bytes that most cases are made of."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

Verdict = Literal["refuse", "serve", "either"]
"""`refuse`: one answer of 4xx, 501 or 505, then the connection is closed. `serve`: answered as if nothing were odd."""

After = Literal["open", "closed", "any"]
"""Whether the connection takes another request after the case was served."""

HOST = b"Host: localhost"
BODY = b'{"model":"corpus-model","messages":[{"role":"user","content":"x"}]}'
"""A chat call that ends in 404 once it was read as it was sent: the answer names the model that nobody serves."""
LENGTH = b"%d" % len(BODY)
JOB = b'{"model":"corpus-model","task":"text-to-image","input":{"prompt":"x"}}'
"""A job that ends in 422, which names the model likewise."""
NO_SUCH_MODEL = frozenset({404})
HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
"""What an attacker hides in a body. It is part of no case's proper reading and must never be answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One odd or malformed use of a connection, and what a strict server does with it."""

    name: str
    sentence: str
    source: str
    """The section that rules it, or the class of attack."""
    verdict: Verdict
    pieces: tuple[bytes, ...]
    """The bytes, in the pieces in which they are sent."""
    before: tuple[int, ...] = ()
    """Statuses of the answers due before the one that the case is about."""
    served: frozenset[int]
    """Statuses of a proper answer."""
    refused: frozenset[int]
    """Statuses of a refusal."""
    after: After = "open"
    cut: bool = False
    """The sender ends in the middle of a request. A connection closed without a word is a refusal too."""
    silent: bool = False
    """No answer is due at all: nothing was asked."""
    bodiless: frozenset[int] = frozenset()
    """Which answers, counted from 0, are to HEAD."""
    says: bytes = b""
    """What the proper answer's body must have, as a proof that the request was read as it was sent."""


class More(TypedDict, total=False):
    """The less common fields of a case."""

    before: tuple[int, ...]
    after: After
    cut: bool
    silent: bool
    bodiless: frozenset[int]
    says: bytes


def refuse(
    name: str,
    sentence: str,
    source: str,
    *pieces: bytes,
    statuses: Collection[int] = (400,),
    **more: Unpack[More],
) -> Case:
    """A case that must be refused with one of `statuses`."""
    nothing: frozenset[int] = frozenset()
    return Case(
        name=name,
        sentence=sentence,
        source=source,
        verdict="refuse",
        pieces=pieces,
        served=nothing,
        refused=frozenset(statuses),
        **more,
    )


def serve(
    name: str,
    sentence: str,
    source: str,
    *pieces: bytes,
    statuses: Collection[int] = (200,),
    **more: Unpack[More],
) -> Case:
    """A case that must be answered with one of `statuses`."""
    nothing: frozenset[int] = frozenset()
    return Case(
        name=name,
        sentence=sentence,
        source=source,
        verdict="serve",
        pieces=pieces,
        served=frozenset(statuses),
        refused=nothing,
        **more,
    )


def either(
    name: str,
    sentence: str,
    source: str,
    *pieces: bytes,
    statuses: Collection[int] = (200,),
    refused: Collection[int] = (400,),
    **more: Unpack[More],
) -> Case:
    """A case that may be answered with one of `statuses`, or refused with one of `refused`."""
    return Case(
        name=name,
        sentence=sentence,
        source=source,
        verdict="either",
        pieces=pieces,
        served=frozenset(statuses),
        refused=frozenset(refused),
        **more,
    )


def get(*fields: bytes, line: bytes = b"GET /health/live HTTP/1.1", host: bytes | None = HOST) -> bytes:
    """A request without a body: request line, Host, more field lines."""
    lines = [line, *([] if host is None else [host]), *fields]
    return b"".join(each + b"\r\n" for each in lines) + b"\r\n"


def post(*fields: bytes, body: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    """A chat call: `fields` say how long its body is."""
    head = get(b"Content-Type: application/json", *fields, line=b"POST /v1/chat/completions " + version)
    return head + body


def post_job(*fields: bytes, body: bytes) -> bytes:
    """A job for a model that nobody serves: a route that the ASGI application answers while the body may still come."""
    return get(b"Content-Type: application/json", *fields, line=b"POST /v1/jobs HTTP/1.1") + body


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    """One chunk of a chunked body."""
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


CHUNKED = b"Transfer-Encoding: chunked"
LAST = b"0\r\n\r\n"
"""The last chunk, no trailers, and the end."""
CHUNKS = chunk(BODY[:20]) + chunk(BODY[20:]) + LAST
