"""Back-off."""

import random

from hypothesis import given
from hypothesis import strategies as st

from sluicegate.scheduling.retries import backoff_seconds


@given(st.integers(1, 100), st.integers(0, 2**32))
def test_it_grows_to_its_cap_and_is_never_nothing(attempt: int, seed: int) -> None:
    seconds = backoff_seconds(attempt, base=1, cap=60, rng=random.Random(seed))
    ceiling = min(60, 2 ** (attempt - 1))
    assert ceiling / 10 <= seconds <= ceiling
