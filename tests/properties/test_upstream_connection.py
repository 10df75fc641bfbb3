"""However the bytes of an answer are cut, who asked is told the same."""

import asyncio
import gzip
import itertools
import zlib
from typing import Any, cast

from hypothesis import example, given
from hypothesis import strategies as st
from tests.arrive import DeadEnd, Overwork, arrive, prompt_outbox
from tests.lane_driver import READ_BYTES
from tests.sinks import Recorder

from sluicegate.backends.upstream.call import Call
from sluicegate.backends.upstream.connection import UpstreamConnection
from sluicegate.backends.upstream.failures import Failures
from sluicegate.errors import BackendUnavailable
from sluicegate.settings import TimeoutSettings
from sluicegate.wire.wheel import Wheel

LIMITS = TimeoutSettings()


class Yard:
    """A pool of one connection, on a loop without time: streams rest after each piece. Fulfils `Home`."""

    def __init__(self) -> None:
        self.inbox = memoryview(bytearray(READ_BYTES))
        self.outbox = prompt_outbox()
        self.rests = Overwork().rests
        self.kept = 0
        self.dropped = 0

    def made(self, connection: UpstreamConnection) -> None:
        """It is there."""

    def keep(self, connection: UpstreamConnection) -> None:
        self.kept += 1

    def drop(self, connection: UpstreamConnection) -> None:
        self.dropped += 1

    def gone(self, connection: UpstreamConnection) -> None:
        """It is no more."""

    def again(self, call: Call) -> None:
        raise AssertionError("the connection is new")

    def refuse(self, call: Call, error: BackendUnavailable) -> None:
        call.fail(error)


def told(data: bytes, places: list[int]) -> tuple[Recorder, Yard]:
    """What is told of an answer that arrives cut at `places`, and then the connection ends."""

    async def scene() -> tuple[Recorder, Yard]:
        yard, wire, sink = Yard(), DeadEnd(), Recorder()
        connection = UpstreamConnection(yard, Wheel(), Failures("up", "there", LIMITS), {})
        connection.connection_made(cast("asyncio.Transport", wire))
        connection.ask(Call(b"", b"", sink, LIMITS, 0.0), 0.0)
        edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
        for start, end in itertools.pairwise(edges):
            if start < end and not wire.aborted:
                arrive(connection, data[start:end])
        connection.eof_received()
        connection.connection_lost(None)
        assert sink.over.is_set()
        assert yard.dropped == 1
        return sink, yard

    return asyncio.run(scene())


def packed(coding: str, body: bytes) -> bytes:
    match coding:
        case "gzip":
            return gzip.compress(body[: len(body) // 2]) + gzip.compress(body[len(body) // 2 :])
        case "deflate":
            return zlib.compress(body)
        case "raw deflate":
            raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            return raw.compress(body) + raw.flush()
        case _:
            return body


def framed(framing: str, body: bytes, sizes: list[int]) -> tuple[bytes, bytes]:
    """Lines of the head, and what follows it."""
    if framing == "length":
        return b"Content-Length: %d\r\n" % len(body), body
    if framing == "close":
        return b"", body
    chunks, rest = [], body
    for size in itertools.cycle(sizes):
        if not rest:
            break
        chunks.append(b"%x;note=1\r\n%b\r\n" % (len(rest[:size]), rest[:size]))
        rest = rest[size:]
    return b"Transfer-Encoding: chunked\r\n", b"".join(chunks) + b"0\r\nX-Sum: 1\r\n\r\n"


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, bytes, int, str]:
    """The bytes of an answer; its body; its status; how it is framed."""
    body = draw(st.binary(max_size=400) | st.integers(1, 3_000).map(lambda count: b"data: word\n\n" * count))
    coding = draw(st.sampled_from(["", "gzip", "deflate", "raw deflate"]))
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    status = draw(st.sampled_from([200, 400, 503]))
    interim = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\n" * draw(st.integers(0, 2))
    lines, wire = framed(framing, packed(coding, body), draw(st.lists(st.integers(1, 50_000), min_size=1, max_size=4)))
    told_coding = coding.rpartition(" ")[2].encode()
    head = b"HTTP/1.1 %d Why\r\ncontent-type: text/x\r\n" % status + lines
    head += b"Content-Encoding: %b\r\n" % told_coding if told_coding else b""
    return interim + head + b"\r\n" + wire, body, status, framing


CUTS = st.lists(st.integers(0, 100_000), max_size=20)


@given(answers(), CUTS)
def test_an_answer_arrives_whole_however_it_is_cut(answer: tuple[bytes, bytes, int, str], places: list[int]) -> None:
    data, body, status, framing = answer
    sink, yard = told(data, places)
    assert sink.error is None
    assert sink.body == body
    assert sink.head is not None
    assert (sink.head.status, sink.head.content_type) == (status, "text/x")
    assert sink.ended
    assert yard.kept == (0 if framing == "close" else 1)


def test_an_answer_arrives_whole_byte_by_byte() -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    sink, yard = told(data, list(range(len(data))))
    assert (sink.body, sink.ended, yard.kept) == (b"hello", True, 1)


@given(answers(), CUTS, st.integers(0, 100_000), st.binary(max_size=6), st.integers(0, 8))
@example((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi", 200, "length"), [37], 40, b"x", 0)
@example((b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\nhi", b"hi", 200, "close"), [37], 0, b"", 0)
def test_a_damaged_answer_ends_the_same_however_it_is_cut(
    answer: tuple[bytes, bytes, int, str], places: list[int], at: int, noise: bytes, lost: int
) -> None:
    at %= len(answer[0]) + 1
    data = answer[0][:at] + noise + answer[0][at + lost :]
    (one, _), (other, _) = told(data, []), told(data, places)
    assert outcome(one) == outcome(other)
    if b"Encoding: gzip" not in data and b"deflate" not in data:
        assert one.body == other.body
    else:
        # A decompressor that finds a fault gives nothing of the piece it found it in.
        assert one.body.startswith(other.body) or other.body.startswith(one.body)


def outcome(sink: Recorder) -> tuple[Any, ...]:
    return sink.head, sink.ended, type(sink.error)
