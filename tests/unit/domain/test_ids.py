"""Identifiers."""

import itertools
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.domain.ids import UlidFactory, new_asset_id, new_job_id, new_request_id

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
MILLISECOND = 1_000_000


def number_of(ulid: str) -> int:
    """The 128 bits that a ULID says."""
    number = 0
    for character in ulid:
        number = number * 32 + ALPHABET.index(character)
    return number


@pytest.fixture
def _eager_switches() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_ids_carry_their_kind() -> None:
    assert new_job_id().startswith("job_")
    assert new_asset_id().startswith("asset_")
    assert new_request_id().startswith("req_")
    assert len(new_job_id()) == len(new_request_id()) == 30


def test_ids_never_repeat_and_sort_by_creation_also_from_many_threads() -> None:
    make = UlidFactory()
    made = [make() for _ in range(5_000)]
    assert made == sorted(set(made))
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda _: make(), range(5_000)))
    assert len(set(many)) == 5_000
    assert min(many) > made[-1]


@pytest.mark.usefixtures("_eager_switches")
def test_threads_share_a_millisecond_and_its_carry_without_a_repetition() -> None:
    ticks = itertools.count(step=MILLISECOND // 100)
    make = UlidFactory(lambda: next(ticks), lambda count: b"\xff" * count)
    with ThreadPoolExecutor(4) as pool:
        made = [list(each) for each in pool.map(lambda _: [make() for _ in range(5_000)], range(4))]
    assert len({ulid for each in made for ulid in each}) == 20_000
    assert all(each == sorted(each) for each in made)


def test_an_id_says_its_millisecond_and_what_was_drawn_for_it() -> None:
    drawn = bytes(range(10))
    make = UlidFactory(lambda: 1_700_000_000_123 * MILLISECOND + 999_999, lambda count: drawn[:count])
    number = number_of(make())
    assert number >> 80 == 1_700_000_000_123
    assert number & (1 << 80) - 1 == int.from_bytes(drawn, "big")


@given(st.lists(st.integers(-3 * MILLISECOND, 3 * MILLISECOND), max_size=40), st.binary(min_size=10, max_size=10))
def test_an_id_is_the_next_number_whatever_the_clock_does(steps: list[int], drawn: bytes) -> None:
    times = list(itertools.accumulate(steps, initial=1_700_000_000_000 * MILLISECOND))
    now = times[0]
    make = UlidFactory(lambda: now, lambda _: drawn)
    last = 0
    for now in times:
        number = number_of(make())
        if now // MILLISECOND > last >> 80:
            assert number == now // MILLISECOND << 80 | int.from_bytes(drawn, "big")
        else:
            assert number == last + 1
        last = number


def test_counting_carries_through_all_that_was_drawn_and_into_the_time() -> None:
    make = UlidFactory(lambda: 5 * MILLISECOND, lambda count: b"\xff" * count)
    first, second = number_of(make()), number_of(make())
    assert first == (6 << 80) - 1
    assert second == 6 << 80


@given(st.integers(0, (1 << 48) - 1), st.binary(min_size=10, max_size=10))
def test_ids_are_26_characters_and_order_as_their_numbers(milliseconds: int, drawn: bytes) -> None:
    early = UlidFactory(lambda: milliseconds * MILLISECOND, lambda _: drawn)()
    late = UlidFactory(lambda: (milliseconds + 1) * MILLISECOND, lambda _: bytes(10))()
    assert len(early) == 26
    assert set(early) <= set(ALPHABET)
    assert early < late or milliseconds == (1 << 48) - 1
