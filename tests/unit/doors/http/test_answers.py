"""The bytes of heads and chunks."""

import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.doors.http.answers import DateLine, chunk, render_head, status_line


def line_at(second: float, date: DateLine) -> bytes:
    """The header line at a time of day."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: second)
        return date.line()


@given(st.integers(946_684_800, 10_000_000_000))
def test_the_date_is_what_every_parser_reads(second: int) -> None:
    line = line_at(second + 0.9, DateLine())
    assert line.startswith(b"date: ")
    assert line.endswith(b" GMT\r\n")
    assert parsedate_to_datetime(line[6:-2].decode()).timestamp() == second


def test_the_date_is_made_anew_when_the_second_has_changed() -> None:
    date = DateLine()
    first = line_at(784_111_777.0, date)
    assert first == b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    assert line_at(784_111_777.9, date) is first
    assert line_at(784_111_778.0, date) == b"date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"


@pytest.mark.parametrize("status", list(HTTPStatus))
def test_every_known_status_has_its_phrase(status: HTTPStatus) -> None:
    assert status_line(status.value) == f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()


def test_an_unknown_status_has_an_empty_phrase_and_its_space() -> None:
    assert status_line(299) == b"HTTP/1.1 299 \r\n"


def test_a_head_is_its_lines_and_a_blank_one() -> None:
    assert render_head(200, [(b"a", b"1"), (b"b", b"")]) == b"HTTP/1.1 200 OK\r\na: 1\r\nb: \r\n\r\n"
    assert render_head(404, []) == b"HTTP/1.1 404 Not Found\r\n\r\n"


def test_a_chunk_has_its_size_in_hex() -> None:
    assert chunk(b"x" * 255) == b"ff\r\n" + b"x" * 255 + b"\r\n"
