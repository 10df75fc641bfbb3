"""Reading bodies."""

import contextlib
from collections.abc import Callable
from typing import Annotated

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from sluicegate.doors.decoding import BodyDecoder, decode_body
from sluicegate.errors import InvalidInput, InvalidRequest, MalformedBody


class Order(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1)]
    count: Annotated[int, Meta(ge=1)] = 1


def test_a_sound_body_is_decoded() -> None:
    assert decode_body(b'{"name":"x"}', Order) == Order("x")
    assert BodyDecoder(Order)(b'{"name":"x"}') == Order("x")


@pytest.mark.parametrize(
    "body", [b"", b"  ", b"{", b'{"name":"\xff"}', b"[" * 200_000, b'{"name": NaN}', b"\xef\xbb\xbf{}"]
)
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode_body(body, Order)


def test_every_wrong_field_is_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_body(b'{"name":"","count":0,"cuont":2}', Order)
    assert {fault.path for fault in caught.value.faults} == {"name", "count", "cuont"}


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_give_a_value_or_a_refusal(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert isinstance(decode_body(body, Order), Order)
    assert outcome(lambda: decode_body(body, Order)) == outcome(lambda: BodyDecoder(Order)(body))


def outcome(decode: Callable[[], Order]) -> object:
    """The value, or the words of the refusal."""
    try:
        return decode()
    except InvalidRequest as error:
        return type(error), error.message, error.faults
