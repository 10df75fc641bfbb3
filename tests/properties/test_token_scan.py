"""Tokens are counted the same however the bytes of an answer are cut."""

import itertools
import json

from hypothesis import example, given
from hypothesis import strategies as st

from sluicegate.doors.lane.scan import TokenScan

CUTS = st.lists(st.integers(0, 100_000), max_size=20)
PIECES = st.sampled_from(
    [
        b"data: ",
        b"\n",
        b"\r",
        b"\n\n",
        b"\r\n\r\n",
        b"data:",
        b"\ndata",
        b": c",
        b"x",
        b'"',
        b"total_tokens",
        b"d",
        b"\\",
    ]
)
TEXTS = st.text(max_size=30) | st.sampled_from(['"total_tokens": 9', "\ndata: x", '","usage":{"total_tokens":1}'])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def scan_of(pieces: list[bytes]) -> TokenScan:
    scan = TokenScan()
    for piece in pieces:
        scan.feed(piece)
    return scan


def words(*texts: str) -> list[bytes]:
    """Each text as an event."""
    return [b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n" for text in texts]


@given(st.lists(PIECES | st.binary(max_size=5_000), max_size=30).map(b"".join), CUTS)
@example(b"\ndata:\ndata:", list(range(12)))
def test_any_bytes_are_counted_the_same_in_any_pieces(data: bytes, places: list[int]) -> None:
    one, other = scan_of([data]), scan_of(cut(data, places))
    for streamed in (False, True):
        assert one.total(streamed=streamed) == other.total(streamed=streamed)
    assert one.ends_an_event == other.ends_an_event


@given(st.lists(TEXTS, max_size=10), st.integers(0, 10**9), CUTS, st.sampled_from([b"\n\n", b"\r\n\r\n"]))
def test_usage_counts_where_it_is_told_whatever_the_model_says(
    texts: list[str], total: int, places: list[int], end: bytes
) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": total}}
    events = [*words(*texts), b"data: " + json.dumps(usage).encode() + end, b"data: [DONE]" + end]
    assert scan_of(cut(b"".join(events), places)).total(streamed=True) == total


@given(st.lists(TEXTS, max_size=40), CUTS, st.booleans())
def test_without_usage_each_event_that_says_something_counts_as_one_token(
    texts: list[str], places: list[int], done: bool
) -> None:
    data = b"".join([*words(*texts), *([b"data: [DONE]\n\n"] if done else [])])
    assert scan_of(cut(data, places)).total(streamed=True) == len(texts)
    assert TokenScan().total(streamed=True) == 0


@given(st.integers(0, 10**6), st.integers(0, 10**6), CUTS)
def test_the_counts_of_ollama_are_added_up(prompt: int, made: int, places: list[int]) -> None:
    lines = [b'{"message":{"content":"hi"},"done":false}\n'] * 3
    last = json.dumps({"done": True, "prompt_eval_count": prompt, "eval_count": made}).encode() + b"\n"
    assert scan_of(cut(b"".join([*lines, last]), places)).total(streamed=True) == prompt + made


@given(st.lists(TEXTS, min_size=1, max_size=10), CUTS)
def test_something_may_be_put_in_only_between_events(texts: list[str], places: list[int]) -> None:
    data = b"".join(words(*texts))
    ends = set(itertools.accumulate(len(event) for event in words(*texts)))
    for place in places:
        at = place % (len(data) + 1)
        assert scan_of(cut(data[:at], places)).ends_an_event is (at in ends or at == 0)
