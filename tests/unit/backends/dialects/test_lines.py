"""Cutting streams into lines and events."""

import itertools

import pytest

from sluicegate.backends.dialects.events import Events, event
from sluicegate.backends.dialects.lines import Lines
from sluicegate.errors import BackendFailed


def read(splitter: Lines | Events, *pieces: bytes) -> list[bytes]:
    fed = itertools.chain.from_iterable(splitter.feed(piece) for piece in pieces)
    return [*fed, *splitter.finish()]


def test_lines_end_in_lf_or_crlf_and_empty_ones_are_left_out() -> None:
    assert read(Lines(), b"a\r\n\r\nb\n\n", b"c", b"d\r", b"\ne") == [b"a", b"b", b"cd", b"e"]
    assert read(Lines(keep_empty=True), b"a\r\n\r\nb") == [b"a", b"", b"b"]


def test_a_byte_order_mark_is_dropped_at_the_start_only() -> None:
    assert read(Lines(), b"\xef", b"\xbb\xbfa\n\xef\xbb\xbfb\n") == [b"a", b"\xef\xbb\xbfb"]


@pytest.mark.parametrize("pieces", [[b"12345678\n"], [b"1234567", b"8\n"], [b"1234", b"5678", b"9"]])
def test_a_line_over_the_limit_is_a_failure_however_it_comes(pieces: list[bytes]) -> None:
    with pytest.raises(BackendFailed, match="over 7 bytes"):
        read(Lines(7), *pieces)
    assert read(Lines(7), b"1234567\n", b"1234567") == [b"1234567"] * 2


def test_events_join_their_lines_and_pass_over_the_rest() -> None:
    body = b": hello\nevent: x\nid: 1\ndata:a\ndata: b\ndata:  c\n\n\ndata\n\ndata: \n\ndatax: y\ndata: d"
    assert read(Events(), body) == [b"a\nb\n c", b"d"]


def test_done_is_an_event_of_its_own_even_without_a_blank_line() -> None:
    assert read(Events(), b"data: {}\ndata: [DONE]\n\n") == [b"{}", b"[DONE]"]


def test_an_event_of_many_lines_over_the_limit_is_a_failure() -> None:
    with pytest.raises(BackendFailed, match="an event of over 20 bytes"):
        read(Events(20), b"data: 12345678\n" * 3)


def test_sixteen_megabytes_in_small_pieces_are_one_line() -> None:
    splitter = Lines()
    pieces = itertools.repeat(b"x" * 64, 2**18 - 1)
    assert [len(line) for line in read(splitter, *pieces, b"\n")] == [2**24 - 64]


def test_what_is_written_as_an_event_is_read_as_one() -> None:
    assert read(Events(), event({"a": "1\n2"})) == [b'{"a":"1\\n2"}']
