"""Whatever bytes come in whatever pieces, a connection keeps its rules.

Requests are generated, whole and with faults; the protocol is driven in process (tests/protocol_driver.py).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.protocol_driver import PEERS, PROTOCOLS, Seen, Talk, converse

_HOST = b"Host: localhost\r\n"
_TOKEN = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.~!#$&'*+^`|", min_size=1, max_size=12)
_SEGMENT = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_~", min_size=1, max_size=8)
_VALUE = st.text('abcXYZ 0123456789,;="()<>[]{}/:?@\\\t', max_size=20).map(lambda text: text.strip(" \t"))
_BODY = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"0\r\n\r\n",
            b"\r\n\r\n",
            b"5\r\nhello\r\n0\r\n\r\n",
            b"\n" * 5,
        ]
    ),
)
_WAITING_FAULT = (
    b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
    b"GET /b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX\r\n"
    b"GET /c HTTP/1.1\r\nHost: localhost\r\n\r\n"
)
"""A fault in the body of a request that waits for its turn."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A well-formed request: what it asks, and how its body is framed."""

    method: str
    path: str
    query: str
    fields: tuple[tuple[str, str], ...]
    body: bytes
    chunks: tuple[int, ...] | None
    """Where a chunked body is cut into chunks; None sends it with its length."""
    extension: str = ""

    def encode(self) -> bytes:
        """The request's bytes."""
        target = f"{self.path}?{self.query}" if self.query else self.path
        fields = b"".join(f"x-{name}: {value}\r\n".encode() for name, value in self.fields)
        head = f"{self.method} {target} HTTP/1.1\r\n".encode() + _HOST + fields
        if self.chunks is not None:
            extension = f";{self.extension}".encode() if self.extension else b""
            chunks = [b"%x%b\r\n%b\r\n" % (len(each), extension, each) for each in cut(self.body, self.chunks)]
            return head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\n\r\n"
        if self.body or self.method in ("POST", "PUT", "PATCH"):
            return head + b"Content-Length: %d\r\n\r\n" % len(self.body) + self.body
        return head + b"\r\n"

    def seen(self) -> Seen:
        """What an application must see of it."""
        return Seen(self.method, self.path, self.query.encode(), self.body)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """`data` cut at `places` (each taken modulo its length), without empty pieces."""
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(marks)]


PLANS = st.builds(
    Plan,
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
    path=st.lists(_SEGMENT, min_size=1, max_size=3).map(lambda segments: "/" + "/".join(segments)),
    query=st.text("abc019=&-_", max_size=8),
    fields=st.lists(st.tuples(_TOKEN, _VALUE), max_size=4).map(tuple),
    body=_BODY,
    chunks=st.one_of(st.none(), st.lists(st.integers(0, 60), max_size=4).map(tuple)),
    extension=st.sampled_from(["", "", "a", "a=b", 'a="b c;d"']),
)
PIPELINES = st.lists(PLANS, min_size=1, max_size=4)
PLACES = st.lists(st.integers(0, 2_000), max_size=12)
FRAGMENTS = st.sampled_from(
    [
        *(b"\r", b"\n", b"\r\n", b"\x00", b" ", b"\t", b":", b"\xff", b"-", b"+", b";", b",", b"\x0b", b"0", b"f" * 16),
        *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n"),
        *(b"Transfer-Encoding: identity\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n"),
        *(b"Expect: 100-continue\r\n", b"Host: evil\r\n", b"HTTP/1.0", b"HTTP/1.1", b"0\r\n\r\n", b"\r\n\r\n"),
        b"GET /more HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A pipeline of requests with a few faults anywhere."""
    data = b"".join(plan.encode() for plan in draw(PIPELINES))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 0, 1, 1, 2, 8, 40])))
        fault = draw(st.one_of(FRAGMENTS, st.binary(max_size=3), st.just(data[start:end] * 2)))
        data = data[:start] + fault + data[end:]
    return data


def talk(protocol: str, pieces: Sequence[bytes], *, at_leisure: bool = True) -> Talk:
    return asyncio.run(converse({**PROTOCOLS, **PEERS}[protocol], pieces, at_leisure=at_leisure))


def check_rules(data: bytes, found: Talk) -> None:
    """What holds for any bytes at all."""
    assert not found.answers.junk
    assert set(found.answers.interim) <= {100}
    assert all(status < 500 or status in (501, 505) for status in found.statuses)
    assert len(found.statuses) <= data.count(b"HTTP/") + 1
    refusals = [number for number, status in enumerate(found.statuses) if status >= 400]
    assert refusals in ([], [len(found.statuses) - 1])
    assert len(found.seen) <= len(found.statuses) - len(refusals)
    assert found.closed


@pytest.mark.parametrize("protocol", [*PROTOCOLS, *PEERS])
@settings(deadline=None)
@given(plans=PIPELINES, places=PLACES, at_leisure=st.booleans())
def test_any_split_of_good_requests_gives_these_requests(
    protocol: str, plans: list[Plan], places: list[int], at_leisure: bool
) -> None:
    data = b"".join(plan.encode() for plan in plans)
    found = talk(protocol, cut(data, places), at_leisure=at_leisure)
    assert found.seen == tuple(plan.seen() for plan in plans)
    assert found.statuses == (200,) * len(plans)
    assert not found.hung_up
    check_rules(data, found)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(deadline=None)
@given(data=mutated(), places=PLACES)
@example(data=_WAITING_FAULT, places=[_WAITING_FAULT.rindex(b"GET")])
def test_requests_with_faults_get_one_answer_each_and_a_refusal_ends_the_connection(
    protocol: str, data: bytes, places: list[int]
) -> None:
    found = talk(protocol, cut(data, places))
    check_rules(data, found)
    if any(status >= 400 for status in found.statuses):
        assert found.hung_up or found.statuses[-1] == 400


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(deadline=None)
@given(data=mutated(), places=PLACES, at_leisure=st.booleans())
def test_any_split_of_requests_with_faults_ends_alike(
    protocol: str, data: bytes, places: list[int], at_leisure: bool
) -> None:
    whole = talk(protocol, [data])
    split = talk(protocol, cut(data, places), at_leisure=at_leisure)
    assert (split.seen, split.statuses) == (whole.seen, whole.statuses)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(deadline=None)
@given(data=st.binary(min_size=1, max_size=200), places=PLACES)
def test_noise_is_refused_once(protocol: str, data: bytes, places: list[int]) -> None:
    found = talk(protocol, cut(data, places))
    check_rules(data, found)
    assert not found.seen
    assert len(found.statuses) <= 1
