"""What one caller may do to the server."""

import msgspec


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What callers may do. Times in seconds; see the settings of `server`."""

    max_body_bytes: int
    head_seconds: float
    idle_seconds: float
    keep_alive_seconds: float = 75.0
