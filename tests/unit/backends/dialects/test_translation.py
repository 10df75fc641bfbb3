"""What every translation promises, and waiting for the whole body."""

import pytest

from sluicegate.backends.dialects.lines import Lines
from sluicegate.backends.dialects.translation import StreamTranslation, Translation, WholeTranslation
from sluicegate.errors import BackendFailed


class Shouting:
    """Renders lines in capitals until "end"; "bad" is a failure."""

    content_type = "text/plain"

    def __init__(self) -> None:
        self.is_over = False

    def take(self, payload: bytes) -> bytes:
        if payload == b"bad":
            raise BackendFailed("bad")
        self.is_over = payload == b"end"
        return payload.upper()

    def end(self) -> bytes:
        raise BackendFailed("incomplete")


def shouting() -> Translation:
    return StreamTranslation(Lines(10), Shouting())


def test_what_came_before_a_failure_is_handed_over_first() -> None:
    translation = shouting()
    assert translation.feed(b"a\nb\nbad\nc\n") == b"AB"
    for _ in range(2):
        with pytest.raises(BackendFailed, match="bad"):
            translation.feed(b"d\n")
    with pytest.raises(BackendFailed, match="bad"):
        translation.finish()


def test_a_failure_alone_is_raised_at_once() -> None:
    translation = shouting()
    assert translation.feed(b"a\n") == b"A"
    with pytest.raises(BackendFailed, match="bad"):
        translation.feed(b"bad\n")


def test_after_the_end_nothing_matters() -> None:
    translation = shouting()
    assert translation.feed(b"a\nend\nbad\n" + b"x" * 100) == b"AEND"
    assert translation.feed(b"bad\n") == b""
    assert translation.finish() == b""


def test_a_last_line_without_its_end_may_be_the_end() -> None:
    translation = shouting()
    assert translation.feed(b"a\nen") == b"A"
    assert translation.feed(b"d") == b""
    assert translation.finish() == b"END"


def test_a_body_that_ends_too_soon_is_a_failure() -> None:
    translation = shouting()
    assert translation.feed(b"a\nb") == b"A"
    with pytest.raises(BackendFailed, match="incomplete"):
        translation.finish()


def test_a_whole_body_is_translated_at_its_end_and_bounded() -> None:
    translation = WholeTranslation(bytes.upper, most_bytes=4)
    assert (translation.feed(b"ab"), translation.feed(b"cd"), translation.finish()) == (b"", b"", b"ABCD")
    with pytest.raises(BackendFailed, match="over 4 bytes"):
        translation.feed(b"e")
