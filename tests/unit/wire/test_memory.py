"""Which messages are known by their heads."""

import pytest

from sluicegate.wire.memory import MOST_HEAD, HeadMemory


def message(body: bytes, line: str = "Content-Length: {n}", length: int | None = None) -> bytes:
    told = len(body) if length is None else length
    return f"POST /v1 HTTP/1.1\r\nHost: a\r\n{line.format(n=told)}\r\nAccept: */*\r\n\r\n".encode() + body


def recall(memory: HeadMemory, data: bytes) -> int:
    return memory.recall(data[:MOST_HEAD], len(data))


def learn(memory: HeadMemory, data: bytes) -> bool:
    return memory.learn(data[:MOST_HEAD], len(data))


@pytest.fixture
def memory() -> HeadMemory:
    """It has seen one message of nine bytes."""
    memory = HeadMemory()
    assert learn(memory, message(b"123456789"))
    return memory


def test_nothing_is_known_at_first() -> None:
    memory = HeadMemory()
    for data in (message(b"a"), b"\0", b"\0\r", b"\0\n", b"\n", b"\r", b""):
        assert not recall(memory, data)


@pytest.mark.parametrize("body", [b"", b"1", b"123456789", b"1234567890", b"x" * 4_000])
def test_the_same_head_is_known_whatever_it_says_of_its_body(memory: HeadMemory, body: bytes) -> None:
    for _ in range(2):
        data = message(body)
        begin = recall(memory, data)
        assert (data[begin:], memory.size) == (body, len(body))
    assert recall(memory, message(b"123456789"))
    assert memory.size == 9


@pytest.mark.parametrize(
    "data",
    [
        message(b"123456789", length=8),
        message(b"123456789", length=10),
        message(b"123456789")[:-1],
        message(b"123456789") + b"P",
        message(b"123456789", line="content-length: {n}"),
        message(b"123456789", line="Content-Length: {n}\r\nX: 1"),
        message(b"123456789", line="Content-Length: +{n}"),
        message(b"123456789", line="Content-Length: {n} "),
        message(b"", line="Content-Length: "),
        message(b"123456789").replace(b"*/*", b"*/a"),
        message(b"123456789").replace(b"/v1", b"/v2"),
        b"\r\n" + message(b"123456789"),
        message(b"", length=10_000_000_000),
    ],
)
def test_any_other_head_and_any_other_length_is_not(memory: HeadMemory, data: bytes) -> None:
    assert not recall(memory, data)


@pytest.mark.parametrize(
    "data",
    [
        message(b"1", line="X-Content-Length: {n}"),
        message(b"1", line="Content-Length:{n}"),
        message(b"1", line="X: 1\r\n Content-Length: {n}"),
        message(b"1", line="X: 1\r\n Y: 2\r\nContent-Length: {n}"),
        message(b"1", line="X: 1\nContent-Length: {n}"),
        message(b"1").replace(b"\r\n\r\n", b"\n\n"),
        message(b"12", length=1),
        b"\r\n" + message(b"1"),
        message(b"1", line="X: " + "y" * 3_000 + "\r\nContent-Length: {n}"),
    ],
)
def test_a_head_that_could_be_read_in_two_ways_is_not_remembered(data: bytes) -> None:
    memory = HeadMemory()
    assert not learn(memory, data)
    assert not recall(memory, data)


def test_a_header_that_only_looks_like_the_length_is_not_taken_for_it() -> None:
    memory = HeadMemory()
    assert learn(memory, message(b"12", line="X-Content-Length: 2\r\nContent-Length: {n}"))
    assert recall(memory, message(b"1", line="X-Content-Length: 2\r\nContent-Length: {n}"))
    assert not recall(memory, message(b"1", line="X-Content-Length: 1\r\nContent-Length: 2"))


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_the_head_of_a_stream_is_known_whatever_follows() -> None:
    memory = HeadMemory()
    assert not memory.recall_stream(CHUNKED)
    assert memory.learn_stream(CHUNKED + b"2\r\nok\r\n")
    for rest in (b"", b"2\r\nno\r\n", b"\r\n"):
        assert memory.recall_stream(CHUNKED + rest) == len(CHUNKED)
    for data in (CHUNKED[:-1], b"\r\n" + CHUNKED, CHUNKED.replace(b"OK", b"Ok"), b""):
        assert not memory.recall_stream(data)
    assert not recall(memory, CHUNKED)


@pytest.mark.parametrize(
    "data", [CHUNKED.replace(b"\r\nT", b"\r\n T"), CHUNKED.replace(b"\r\nT", b"\nT"), CHUNKED[:-2]]
)
def test_the_head_of_a_stream_that_could_be_read_in_two_ways_is_not_remembered(data: bytes) -> None:
    memory = HeadMemory()
    assert not memory.learn_stream(data)
    assert not memory.recall_stream(data)


def test_heads_that_never_come_again_are_learned_seldom() -> None:
    memory = HeadMemory()
    learned = [learn(memory, message(b"1", line=f"X-Id: {number}\r\nContent-Length: {{n}}")) for number in range(80)]
    assert sum(learned) == 11


def test_what_is_recalled_pays_for_what_is_learned() -> None:
    memory = HeadMemory()
    assert learn(memory, message(b"1"))
    for _ in range(8):
        assert recall(memory, message(b"12"))
    assert learn(memory, message(b"1", line="X: 2\r\nContent-Length: {n}"))
    assert not recall(memory, message(b"1"))
