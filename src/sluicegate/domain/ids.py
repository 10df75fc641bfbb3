"""Identifiers: a short prefix, then a ULID (time-ordered, 26 characters of Crockford's base 32).

Ids of one process sort by creation: within one millisecond the random part counts up.
Source: https://github.com/ulid/spec
"""

import itertools
import os
import re
import threading
import time
from collections.abc import Callable
from typing import NewType, cast

JobId = NewType("JobId", str)
AssetId = NewType("AssetId", str)
WorkerId = NewType("WorkerId", str)
RequestId = NewType("RequestId", str)
Tenant = NewType("Tenant", str)

SANE_REQUEST_ID = r"^[A-Za-z0-9._:-]{1,128}\Z"
"""What a caller may send as the id of a request."""
_sane_request_id = re.compile(SANE_REQUEST_ID.encode()).match

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
"""Ten bits, two characters."""
_RANDOM_BYTES = 10
_HEAD_RANDOM_BITS = 60
_HEAD_SHIFTS = tuple(range(100, -1, -10))
_TAIL_BITS = 20
_LAST_TAIL = (1 << _TAIL_BITS) - 1


def _encode_head(number: int) -> str:
    """The 108 leading bits of a ULID, as its 22 leading characters."""
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in _HEAD_SHIFTS])


class UlidFactory:
    """Makes ULIDs that never repeat or go backwards within this process, even when the clock does.

    A ULID is a number of 128 bits: 48 of time, 80 that are drawn anew in each millisecond and count up within it.
    Here it is split where the count seldom carries: the first 22 characters stay, and only 4 are made for each id.
    `itertools.count` hands every number out once, also to several threads; only a new head needs the lock.
    """

    def __init__(
        self, now_ns: Callable[[], int] = time.time_ns, draw: Callable[[int], bytes] = os.urandom, *, prefix: str = ""
    ) -> None:
        """`prefix` stands in front of every id."""
        self._prefix = prefix
        self._now_ns = now_ns
        self._draw = draw
        self._lock = threading.Lock()
        self._head = 0
        self._run: tuple[int, str, Callable[[], int]] = (0, "", itertools.count().__next__)
        """Up to when (in ns) it holds, the text of the head, and what gives the next tail: replaced as one."""

    def __call__(self) -> str:
        until, text, next_tail = self._run
        if self._now_ns() < until:
            tail = next_tail()
            if tail <= _LAST_TAIL:
                return text + _PAIRS[tail >> 10] + _PAIRS[tail & 1023]
        return self._with_new_head()

    def _with_new_head(self) -> str:
        with self._lock:
            milliseconds = self._now_ns() // 1_000_000
            if milliseconds > self._head >> _HEAD_RANDOM_BITS:
                drawn = int.from_bytes(self._draw(_RANDOM_BYTES), "big")
                self._head = milliseconds << _HEAD_RANDOM_BITS | drawn >> _TAIL_BITS
                tail = drawn & _LAST_TAIL
            else:
                self._head += 1
                tail = 0
            text = self._prefix + _encode_head(self._head)
            until = ((self._head >> _HEAD_RANDOM_BITS) + 1) * 1_000_000
            self._run = (until, text, itertools.count(tail + 1).__next__)
            return text + _PAIRS[tail >> 10] + _PAIRS[tail & 1023]


_ulid = UlidFactory()


def new_job_id() -> JobId:
    """A new job id, for example ``job_01k3…``."""
    return JobId("job_" + _ulid())


def new_asset_id() -> AssetId:
    """A new asset id, for example ``asset_01k3…``."""
    return AssetId("asset_" + _ulid())


def new_worker_id() -> WorkerId:
    """A new worker id, for example ``worker_01k3…``."""
    return WorkerId("worker_" + _ulid())


def request_id_of(given: bytes) -> RequestId:
    """The caller's own X-Request-Id when it is sane, else a new one."""
    return RequestId(given.decode("ascii")) if _sane_request_id(given) else new_request_id()


new_request_id = cast("Callable[[], RequestId]", UlidFactory(prefix="req_"))
"""A new request id, for example ``req_01k3…``. Not a function of its own: every request needs one."""
