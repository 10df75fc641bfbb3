"""A head that a connection remembers stands for exactly the heads that the parser would read alike."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.lane_driver import WiredBackend
from tests.protocol_driver import PROTOCOLS, Talk, converse
from tests.sinks import Recorder

from sluicegate.backends.backend import ChatCall
from sluicegate.backends.upstream.call import Call
from sluicegate.domain.ids import RequestId
from sluicegate.settings import TimeoutSettings

_BODIES = (b"", b"a", b"{}", b"0\r\n\r\n", b'{"model":"m"}', b"x" * 99, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n")
_LINES = (
    "Content-Length: {n}",
    "Content-Length: {n}",
    "content-length: {n}",
    "CONTENT-LENGTH: {n}",
    "Content-Length:{n}",
    "Content-Length:  {n}",
    "Content-Length: {n} ",
    "Content-Length: 0{n}",
    "Content-Length: +{n}",
    "Content-Length: {n}\r\nX-After: 1",
    "X-Content-Length: 2\r\nContent-Length: {n}",
    "Content-Length: {n}\r\nX-Content-Length: 2",
    "X: Content-Length: 2\r\nContent-Length: {n}",
    "X: 1\r\n Content-Length: 2\r\nContent-Length: {n}",
    "Content-Length: {n}\r\nContent-Length: 2",
    "Content-Length: {n}\r\nTransfer-Encoding: chunked",
    "Content-Length: {n}\r\nExpect: 100-continue",
    "Content-Length: {n}\r\nConnection: close",
    "Content-Length: {n}\nX-Bare: 1",
    "Transfer-Encoding: chunked",
)


@st.composite
def message(draw: st.DrawFn) -> bytes:
    """A request, mostly like the others, with a body that is mostly as long as it says."""
    body = draw(st.sampled_from(_BODIES))
    length = len(body) + draw(st.sampled_from((0, 0, 0, 0, 0, -1, 1)))
    line = _LINES[draw(st.one_of(st.integers(0, 1), st.integers(0, len(_LINES) - 1)))]
    target = draw(st.sampled_from(("/v1/chat", "/v1/chat", "/v1/embed")))
    lead = draw(st.sampled_from(("", "", "", "\r\n")))
    head = f"{lead}POST {target} HTTP/1.1\r\nHost: a\r\n{line.format(n=max(0, length))}\r\n\r\n"
    return head.encode() + body


def talk(protocol: str, pieces: Sequence[bytes]) -> Talk:
    return asyncio.run(converse(PROTOCOLS[protocol], pieces))


def repeat(line: str, *bodies: bytes) -> list[bytes]:
    return [f"POST / HTTP/1.1\r\nHost: a\r\n{line.format(n=len(body))}\r\n\r\n".encode() + body for body in bodies]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(deadline=None)
@given(messages=st.lists(message(), min_size=2, max_size=6), cuts=st.data())
@example(messages=repeat("Content-Length: {n}", b"a", b"bc", b"defghijklmn", b""), cuts=None)
@example(messages=repeat("X-Content-Length: 1\r\nContent-Length: {n}", b"a", b"b", b"cc"), cuts=None)
def test_requests_in_one_piece_each_are_those_in_two(
    protocol: str, messages: list[bytes], cuts: st.DataObject | None
) -> None:
    in_two: list[bytes] = []
    for each in messages:
        place = cuts.draw(st.integers(1, len(each) - 1)) if cuts is not None else 1
        in_two += [each[:place], each[place:]]
    whole, split = talk(protocol, messages), talk(protocol, in_two)
    assert (whole.seen, whole.statuses, whole.hung_up) == (split.seen, split.statuses, split.hung_up)


_ANSWER_LINES = (
    "Content-Length: {n}",
    "Content-Length: {n}",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: chunked",
    "content-length: {n}",
    "Content-Length:{n}",
    "Content-Length: {n}\r\nX-Content-Length: 2",
    "X: 1\r\n Content-Length: 2\r\nContent-Length: {n}",
    "Content-Length: {n}\r\nConnection: close",
    "Content-Length: {n}\r\nKeep-Alive: timeout=0",
    "Content-Length: {n}\r\nContent-Encoding: gzip",
    "Content-Length: {n}\r\nContent-Encoding: identity",
    "Transfer-Encoding: chunked\r\nContent-Encoding: identity",
    "Transfer-Encoding: chunked\r\nConnection: close",
    "Transfer-Encoding: gzip, chunked",
    "X: chunked",
)


@st.composite
def answer(draw: st.DrawFn) -> bytes:
    """An answer, mostly like the others, with a body that is mostly framed as it says."""
    body = draw(st.sampled_from((b"", b"a", b"{}", b'data: {"a":1}\n\n', b"x" * 300)))
    length = len(body) + draw(st.sampled_from((0, 0, 0, 0, 0, 0, -1, 1)))
    line = _ANSWER_LINES[draw(st.one_of(st.integers(0, 3), st.integers(0, len(_ANSWER_LINES) - 1)))]
    status = draw(st.sampled_from(("200 OK", "200 OK", "200 OK", "429 Slow", "204 No")))
    interim = draw(st.sampled_from(("", "", "", "HTTP/1.1 103 Early\r\n\r\n")))
    more = draw(st.sampled_from(("", "", "Content-Type: text/event-stream\r\n")))
    head = f"{interim}HTTP/1.1 {status}\r\n{more}{line.format(n=max(0, length))}\r\n\r\n"
    if "chunked" not in line:
        return head.encode() + body
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:3], body[3:]) if part)
    return head.encode() + chunks + draw(st.sampled_from((b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX: 1\r\n\r\n", b"")))


def heard(pieces: Sequence[Sequence[bytes]]) -> list[object]:
    """What the sinks of calls on one connection hear, each answer in its pieces."""

    async def scene() -> list[object]:
        told: list[object] = []
        backend, first = WiredBackend(), Recorder()
        backend.send(ChatCall("chat/completions", b"{}", RequestId("r")), first)
        far = backend.last
        for number, answer in enumerate(pieces):
            sink = Recorder() if number else first
            if number:
                far.connection.ask(Call(b"", b"", sink, TimeoutSettings(), 0.0), 0.0)
            for piece in answer:
                far.say(piece)
            told.append((sink.head, sink.body, sink.ended, str(sink.error), far.is_cancelled))
            if not sink.ended or far.is_cancelled:
                break
        return told

    return asyncio.run(scene())


def again(line: str, body: bytes, interim: str = "") -> list[bytes]:
    """The same answer three times."""
    return [f"{interim}HTTP/1.1 200 OK\r\n{line}\r\n\r\n".encode() + body] * 3


_CHUNKS = b"5\r\nHELLO\r\n0\r\n\r\n"


@settings(deadline=None)
@given(answers=st.lists(answer(), min_size=2, max_size=6), cuts=st.data())
@example(answers=again("Content-Length: 15\r\nContent-Encoding: identity", _CHUNKS), cuts=None)
@example(answers=again("Transfer-Encoding: chunked", _CHUNKS, "HTTP/1.1 103 Early\r\n\r\n"), cuts=None)
@example(answers=again("Transfer-Encoding: chunked", _CHUNKS), cuts=None)
def test_answers_in_one_piece_each_are_those_in_two(answers: list[bytes], cuts: st.DataObject | None) -> None:
    in_two: list[list[bytes]] = []
    for each in answers:
        # Within the first line, so that no head is known by its first piece.
        place = cuts.draw(st.integers(1, 9)) if cuts is not None else 1
        in_two.append([each[:place], each[place:]])
    assert heard([[each] for each in answers]) == heard(in_two)
