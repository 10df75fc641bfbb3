"""However the bytes of the caller and of the upstream are cut, the answers, the calls and the counts are the same."""

import asyncio
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lane_driver import (
    CHAT,
    DONE,
    CallerWire,
    WiredBackend,
    chat,
    chunk_event,
    chunked,
    post,
    request,
    served,
    settled,
    simple_chat,
    stream_head,
    whole,
)

CUTS = st.lists(st.integers(0, 1_000_000), max_size=30)


@dataclass(frozen=True, slots=True)
class Case:
    """A request and, where it reaches a backend, what the upstream says: bytes, and whether it hangs up behind them."""

    sent: bytes
    said: bytes | None
    hangs_up: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of some cases on one connection."""

    answers: Sequence[tuple[int, str, bytes]]
    calls: Sequence[tuple[str, bytes]]
    counts: dict[str, int]
    tokens: int
    is_over: bool


def cut(data: bytes, places: Sequence[int]) -> Iterator[bytes]:
    """The pieces of `data` between `places`, none of them empty."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return (data[start:end] for start, end in itertools.pairwise(edges) if start < end)


async def serve(cases: Sequence[Case], places: Sequence[int], far_places: Sequence[int]) -> Outcome:
    """Send the cases over one connection, whatever is pipelined, and let the upstream answer each call in its turn."""
    backend = WiredBackend()
    async with served(backend) as plant:
        caller = plant.connect()
        due = [case for case in cases if case.said is not None]
        answered = 0
        for piece in cut(b"".join(case.sent for case in cases), places):
            while not (caller.is_reading() or caller.is_over):
                await settled(caller)
                answered += await _answer(backend, due, answered, far_places)
            if not caller.is_over:
                caller.feed(piece)
        while answered < len(backend.calls) or not await _is_quiet(caller, backend, answered):
            answered += await _answer(backend, due, answered, far_places)
        answers = [_told(answer.status, answer.fields, answer.body) for answer in caller.answers]
        calls = [(far.call.path, far.call.body) for far in backend.calls]
        outcome = Outcome(answers, calls, plant.counts(), plant.tokens(), caller.is_over)
        caller.leave()
        await settled(caller)
    return outcome


async def _answer(backend: WiredBackend, due: Sequence[Case], answered: int, places: Sequence[int]) -> int:
    """Let the upstream answer the next call, if there is one; how many it answered."""
    if answered == len(backend.calls):
        return 0
    far, case = backend.calls[answered], due[answered]
    assert case.said is not None
    for piece in cut(case.said, places):
        if not far.is_cancelled:
            far.say(piece)
    if case.hangs_up and not far.is_dropped:
        far.end()
    await asyncio.sleep(0)
    return 1


async def _is_quiet(caller: CallerWire, backend: WiredBackend, answered: int) -> bool:
    await settled(caller)
    return answered == len(backend.calls)


def _told(status: int, fields: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
    kept = {name: value for name, value in fields.items() if name != "date"}
    if b"totalDuration" in body:
        head, _, rest = body.partition(b'"totalDuration":')
        body = head + rest.lstrip(b"0123456789")
    return status, json.dumps(kept, sort_keys=True), body


def framed(draw: st.DrawFn, body: bytes, content_type: str) -> bytes:
    """The upstream's answer with this body, in some framing."""
    match draw(st.sampled_from(["length", "chunked", "close"])):
        case "length":
            return whole(body, content_type)
        case "chunked":
            size = draw(st.integers(1, 20_000))
            parts = [body[start : start + size] for start in range(0, len(body), size)]
            return stream_head(content_type) + chunked(*parts, last=True)
        case _:
            return f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n\r\n".encode() + body


TEXTS = st.text(max_size=20) | st.sampled_from(['"total_tokens": 9', "\n\ndata: [DONE]\n\n", "é" * 700])


def events(draw: st.DrawFn) -> bytes:
    """A whole stream of OpenAI's dialect."""
    made = [chunk_event(text) for text in draw(st.lists(TEXTS, max_size=6))]
    made.append(chunk_event("", "stop"))
    if draw(st.booleans()):
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        made.append(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
    made.insert(draw(st.integers(0, len(made))), b": a comment\r\n\r\n")
    return b"".join([*made, DONE])


@st.composite
def cases(draw: st.DrawFn, number: int) -> Case:
    """A call that is answered in some way, or a request that needs no backend."""
    lines = [f"X-Request-Id: r{number}"]
    kind = draw(st.sampled_from(["stream", "simple", "whole", "long", "refused", "broken", "faulty", "unmatched"]))
    if draw(st.booleans()):
        lines.append("Expect: 100-continue")
    if kind == "unmatched":
        return Case(request("GET", f"/nothing/{number}", b"", f"X-Request-Id: r{number}"), None)
    is_stream = kind in {"stream", "simple", "broken"}
    path = "/api/chat" if kind == "simple" or (kind == "broken" and draw(st.booleans())) else CHAT
    fields: dict[str, Any] = {"user": draw(TEXTS)} if path == CHAT else {}
    body = chat(stream=is_stream, **fields) if path == CHAT else simple_chat(model="m")
    if kind == "faulty":
        return Case(post(path, body[: draw(st.integers(0, len(body) - 1))] or b"{", *lines), None)
    return Case(_sent(draw, path, body, lines), _said(draw, kind), hangs_up=kind != "refused")


def _said(draw: st.DrawFn, kind: str) -> bytes:
    """What the upstream says to a call of this kind."""
    match kind:
        case "stream" | "simple":
            return framed(draw, events(draw), "text/event-stream")
        case "whole":
            usage = draw(st.sampled_from([{}, {"usage": {"total_tokens": 11}}]))
            return framed(draw, json.dumps({"text": draw(TEXTS), **usage}).encode(), "application/json")
        case "long":
            return framed(draw, b"x" * 1_100_000, "application/json")
        case "refused":
            status = draw(st.sampled_from([400, 404, 422, 500]))
            return whole(b'{"error":{"message":"no"}}', "application/json", status)
        case _:
            stream = events(draw)
            broken = stream[: draw(st.integers(0, len(stream) - len(DONE) - 60))]
            return stream_head() + b"%x\r\n%b" % (len(stream), broken)


def _sent(draw: st.DrawFn, path: str, body: bytes, lines: list[str]) -> bytes:
    if draw(st.booleans()):
        return post(path, body, *lines)
    size = draw(st.integers(1, 200))
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return request("POST", path, b"", "Transfer-Encoding: chunked", *lines) + chunked(*parts, last=True)


@st.composite
def talks(draw: st.DrawFn) -> list[Case]:
    """Some requests on one connection, each with an id of its own."""
    return [draw(cases(number)) for number in range(draw(st.integers(1, 4)))]


@settings(deadline=None)
@given(talks(), CUTS, CUTS)
def test_answers_calls_and_counts_are_the_same_in_any_pieces(
    talk: list[Case], places: list[int], far_places: list[int]
) -> None:
    one = asyncio.run(serve(talk, [], []))
    other = asyncio.run(serve(talk, places, far_places))
    assert one.answers == other.answers
    assert one == other


def test_one_talk_is_the_same_byte_by_byte() -> None:
    sent = post("/api/chat", simple_chat(model="m"), "X-Request-Id: r0")
    said = stream_head() + chunked(chunk_event("é"), chunk_event("", "stop"), DONE, last=True)
    later = Case(post(CHAT, b"{", "X-Request-Id: r1"), None)
    talk = [Case(sent, said), later]
    one = asyncio.run(serve(talk, [], []))
    other = asyncio.run(serve(talk, range(1_000), range(1_000)))
    assert [status for status, _, _ in one.answers] == [200, 400]
    assert one == other
