"""Undoing a content coding that was not asked for (RFC 9110, 8.4), piece by piece and within bounds."""

import zlib

_GENEROUS = 1 << 20
"""So many bytes may come out of anything."""
_MOST_RATIO = 250
"""Above `_GENEROUS`, more bytes than so many times what went in are a bomb; real answers stay far below."""
_EITHER_HEADER = zlib.MAX_WBITS | 32
_NO_HEADER = -zlib.MAX_WBITS

CODINGS = frozenset({b"gzip", b"x-gzip", b"deflate"})
"""The codings that `Unpacker` knows, in small letters."""


class BadCoding(Exception):
    """The coded bytes are damaged, or a bomb."""


class Unpacker:
    """Undoes gzip (of several members too) and deflate (with zlib's header or without)."""

    __slots__ = ("_came_in", "_coding", "_inner", "_went_out")

    def __init__(self, coding: bytes) -> None:
        self._coding = coding
        self._inner: zlib._Decompress | None = None
        self._came_in = 0
        self._went_out = 0

    @property
    def is_whole(self) -> bool:
        """Whether what came so far is complete; nothing at all is."""
        return self._inner is None or self._inner.eof

    def feed(self, data: bytes) -> bytes:
        """The plain bytes of the next piece. Raises `BadCoding`."""
        self._came_in += len(data)
        most = max(_GENEROUS, self._came_in * _MOST_RATIO)
        made: list[bytes] = []
        while data:
            inner = self._begun(data)
            try:
                plain = inner.decompress(data, most - self._went_out + 1)
            except zlib.error as error:
                raise BadCoding(f"a damaged {self._coding.decode()} body: {error}") from None
            self._went_out += len(plain)
            if self._went_out > most:
                raise BadCoding(f"{self._came_in} bytes of {self._coding.decode()} unpack to more than {most}")
            made.append(plain)
            data = inner.unconsumed_tail or inner.unused_data
        return made[0] if len(made) == 1 else b"".join(made)

    def _begun(self, data: bytes) -> "zlib._Decompress":
        """The decompressor of the member that `data` goes on with."""
        if self._inner is None or self._inner.eof:
            # Some servers send deflate without the header that it should have; with it, its first byte ends in 8.
            is_raw = self._coding == b"deflate" and data[0] & 0x0F != 8
            self._inner = zlib.decompressobj(_NO_HEADER if is_raw else _EITHER_HEADER)
        return self._inner
