"""What is looked at, and said, in a stream of Ollama's dialect."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.doors.ollama.answers import OllamaWording, WholeLines
from sluicegate.errors import BackendFailed

LINE = b'{"message":{"content":"Zo\xc3\xab"},"done":false}\n'
LAST = b'{"done":true,"eval_count":1}\n'


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(st.integers(min_value=0), max_size=20), st.booleans())
def test_any_split_comes_out_as_it_went_in_and_only_between_lines(places: list[int], has_end: bool) -> None:
    data = LINE * 3 + (LAST + b"\r\n \n" if has_end else LAST.removesuffix(b"\n"))
    lines = WholeLines()
    out = b""
    for piece in cut(data, places):
        made = lines.feed(piece)
        assert made == b"" or made.endswith(b"\n")
        out += made
    assert out + lines.finish() == data


def test_a_piece_that_ends_where_a_line_does_is_not_copied() -> None:
    piece = LINE * 2
    assert WholeLines().feed(piece) is piece


@pytest.mark.parametrize("rest", [b"", b'{"mess', LINE])
def test_a_stream_that_ends_before_the_answer_does_is_a_failure(rest: bytes) -> None:
    lines = WholeLines()
    lines.feed(LINE + rest)
    with pytest.raises(BackendFailed, match="before it was complete"):
        lines.finish()


@pytest.mark.parametrize("last", [b'{"done": true}\n', b'{"error":"out of memory"}\n', LAST])
def test_the_last_line_may_say_that_it_is_done_or_what_went_wrong(last: bytes) -> None:
    lines = WholeLines()
    assert lines.feed(LINE + last) + lines.finish() == LINE + last


def test_a_line_without_an_end_is_a_failure_and_not_kept_for_ever() -> None:
    lines = WholeLines(most_bytes=100)
    assert lines.feed(LINE + b"x" * 100) == LINE
    with pytest.raises(BackendFailed, match="line of over 100 bytes"):
        lines.feed(b"x")


def test_an_error_is_a_line_of_its_own() -> None:
    assert json.loads(OllamaWording().broken(BackendFailed("it broke"))) == {"error": "it broke"}
    assert OllamaWording().broken(BackendFailed("it broke")).endswith(b"\n")


def test_the_heartbeat_means_nothing_to_who_decodes_lines() -> None:
    wording = OllamaWording()
    told = wording.heartbeat * 2 + LINE + wording.heartbeat + LAST
    assert [json.loads(line)["done"] for line in told.splitlines()] == [False, True]
