"""The reader of server-sent events."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from sluicegate.cli.events import EventReader, ServerEvent

LINES = st.sampled_from(
    [
        "",
        "data: hello",
        "data:no space",
        "data:  two spaces",
        "data",
        "data: grüße 🍎",
        "event: job.running",
        "event:",
        "id: 7",
        "id",
        "id: with\0nul",
        "retry: 1500",
        "retry: soon",
        ": heartbeat",
        "unknown: field",
    ]
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r", "\r\n"])), max_size=30)


def read(*pieces: bytes) -> list[ServerEvent]:
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)]


@given(STREAMS, st.lists(st.integers(0, 400), max_size=20), st.booleans())
def test_the_same_bytes_give_the_same_events_however_they_are_cut(
    lines: list[tuple[str, str]], cuts: list[int], bom: bool
) -> None:
    data = (b"\xef\xbb\xbf" if bom else b"") + "".join(line + end for line, end in lines).encode()
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    pieces = [data[start:end] for start, end in itertools.pairwise(places)]

    assert read(*pieces) == read(*(bytes([byte]) for byte in data))


@given(STREAMS)
def test_any_line_end_gives_the_same_events(lines: list[tuple[str, str]]) -> None:
    texts = [line for line, _ in lines]
    wanted = read("".join(f"{line}\n" for line in texts).encode())

    assert read("".join(f"{line}\r\n" for line in texts).encode()) == wanted
    assert read("".join(f"{line}\r" for line in texts).encode()) == wanted


def test_an_event_has_its_name_its_lines_of_data_and_its_id() -> None:
    events = read(b"id: 3\nevent: job.running\ndata: one\ndata: two\n\ndata: three\n\n")

    assert events == [ServerEvent("job.running", "one\ntwo", "3"), ServerEvent("message", "three", "3")]


def test_an_event_without_data_is_none_but_its_id_counts() -> None:
    reader = EventReader()

    assert list(reader.feed(b"event: nothing\nid: 9\n\n: only a comment\n\n")) == []
    assert reader.last_id == "9"


def test_an_event_that_is_cut_off_is_not_told_and_does_not_move_the_place_to_resume() -> None:
    reader = EventReader("4")

    assert list(reader.feed(b"id: 5\ndata: unfinished\n")) == []
    assert reader.last_id == "4"


def test_an_id_with_a_nul_is_ignored_and_an_empty_one_forgets() -> None:
    reader = EventReader()

    list(reader.feed(b"id: 5\ndata\n\nid: a\0b\ndata\n\n"))
    assert reader.last_id == "5"
    list(reader.feed(b"id\ndata\n\n"))
    assert reader.last_id == ""


def test_the_time_to_reconnect_is_kept_in_seconds() -> None:
    reader = EventReader()

    list(reader.feed(b"retry: 1500\nretry: soon\nretry: \n"))

    assert reader.retry_seconds == 1.5


def test_bytes_that_are_no_utf8_become_replacement_characters() -> None:
    assert read(b"data: \xff\xfe\n\n") == [ServerEvent("message", "\ufffd\ufffd", "")]
