"""Identifiers: a short prefix, then a ULID (time-ordered, 26 characters of Crockford's base 32).

Ids of one process sort by creation: within one millisecond the random part counts up.
Source: https://github.com/ulid/spec
"""

import secrets
import threading
import time
from typing import NewType

JobId = NewType("JobId", str)
AssetId = NewType("AssetId", str)
WorkerId = NewType("WorkerId", str)
RequestId = NewType("RequestId", str)
Tenant = NewType("Tenant", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 80


def _encode(number: int) -> str:
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


class UlidFactory:
    """Makes ULIDs that never repeat or go backwards within this process, even when the clock does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def __call__(self) -> str:
        with self._lock:
            milliseconds = time.time_ns() // 1_000_000
            if milliseconds > self._last >> _RANDOM_BITS:
                self._last = (milliseconds << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
            else:
                self._last += 1
            return _encode(self._last)


_ulid = UlidFactory()


def new_job_id() -> JobId:
    """A new job id, for example ``job_01k3…``."""
    return JobId(f"job_{_ulid()}")


def new_asset_id() -> AssetId:
    """A new asset id, for example ``asset_01k3…``."""
    return AssetId(f"asset_{_ulid()}")


def new_worker_id() -> WorkerId:
    """A new worker id, for example ``worker_01k3…``."""
    return WorkerId(f"worker_{_ulid()}")


def new_request_id() -> RequestId:
    """A new request id, for example ``req_01k3…``."""
    return RequestId(f"req_{_ulid()}")
