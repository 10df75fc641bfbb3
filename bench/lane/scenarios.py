"""The cases. The model's name tells the upstream what to do, as bench/c/upstream.c says at its head."""

from typing import Final

import msgspec

PLAIN: Final = "mock-t0-n32-g0-w0-s0"
BURST: Final = "mock-t0-n32-g0-w1-s0"
FIFTY_TOKENS: Final = "mock-t20-n50-g20-w0-s0"
QUIET: Final = "mock-t0-n100000-g10000-w0-s0"
"""One token, then one every ten seconds: a stream that is open and does next to nothing."""
FLOOD: Final = "mock-t0-n1000000-g0-w1-s4000"
"""Tokens of 4 KB as fast as they are taken."""
SILENT: Final = "mock-t60000-n1-g0-w0-s0"
"""The head of the answer at once, the first token after a minute."""
STEADY: Final = "mock-t0-n1000000-g20-w0-s0"

MODELS: Final = (PLAIN, BURST, FIFTY_TOKENS, QUIET, FLOOD, SILENT, STEADY)
"""Every model that the bench asks for: the upstream lists them, and gateways are configured with them."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A closed loop of callers."""

    name: str
    title: str
    model: str
    stream: bool
    connections: int
    part: str = "throughput"


CASES: Final = (
    Case(name="plain", title="not streamed, 100 callers", model=PLAIN, stream=False, connections=100),
    Case(name="plain16", title="not streamed, 16 callers", model=PLAIN, stream=False, connections=16),
    Case(name="plain1", title="not streamed, 1 caller", model=PLAIN, stream=False, connections=1),
    Case(name="burst", title="short streams: 34 events in one write", model=BURST, stream=True, connections=100),
    Case(name="writes", title="short streams: 34 events in a write each", model=PLAIN, stream=True, connections=100),
    Case(
        name="streams",
        title="1 000 streams of 50 tokens at 20 ms",
        model=FIFTY_TOKENS,
        stream=True,
        connections=1000,
        part="tokens",
    ),
)
