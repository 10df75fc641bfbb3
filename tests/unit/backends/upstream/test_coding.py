"""Undoing content codings."""

import gzip
import zlib

import pytest

from sluicegate.backends.upstream.coding import BadCoding, Unpacker


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
def test_a_bomb_is_refused_before_it_has_gone_off(coding: bytes) -> None:
    bomb = gzip.compress(bytes(40_000_000)) if coding == b"gzip" else zlib.compress(bytes(40_000_000))
    with pytest.raises(BadCoding, match="unpack to more"):
        Unpacker(coding).feed(bomb)
    slow = Unpacker(coding)
    with pytest.raises(BadCoding, match="unpack to more"):
        list(map(slow.feed, (bomb[start : start + 1_000] for start in range(0, len(bomb), 1_000))))


def test_an_honest_body_that_shrinks_well_is_unpacked() -> None:
    text = b"".join(b'{"index": %d, "text": "word"}' % number for number in range(200_000))
    assert Unpacker(b"gzip").feed(gzip.compress(text)) == text


def test_a_body_that_is_cut_short_is_not_whole() -> None:
    unpacker = Unpacker(b"gzip")
    assert unpacker.is_whole, "nothing came, nothing is missing"
    unpacker.feed(gzip.compress(b"hello")[:-3])
    assert not unpacker.is_whole


def test_what_is_not_packed_is_refused() -> None:
    with pytest.raises(BadCoding, match="damaged gzip"):
        Unpacker(b"gzip").feed(b"plain words")
