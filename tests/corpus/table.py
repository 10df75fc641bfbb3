"""The table of what nginx, uvicorn and we do with each case."""

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from tests.corpus.case import Case
from tests.corpus.conversation import Outcome
from tests.corpus.corpus import ROOMS

DOCUMENT = Path(__file__).parents[2] / "docs" / "guides" / "malformed-requests.md"
SERVERS = ("nginx", "uvicorn", "ours")

_INTRODUCTION = """\
# Malformed and odd requests

A server that reads a request in another way than the proxy before it lets callers write one another's requests. So
whatever is ambiguous about where a request or its body ends is refused with 400 and the connection closed; a request
that is odd but clear is served. `tests/corpus/` holds {count} uses of a connection as bytes, each with what a strict
server may do. `tests/wire/test_malformed_requests.py` plays them to a real gateway over raw sockets. This page is
written by `python -m tests.corpus --write`, and a test compares it with what the servers do.

Each case's bytes are followed by a plain request that asks to close the connection. The columns say:

| | |
|---|---|
| `200`, `200 404` | the statuses of the answers; the connection then took the plain request |
| `30 × 200` | so many answers |
| `100 404` | an interim answer first |
| `400 closes` | after the answer the connection was closed, and the plain request was not answered |
| `closes` | closed without an answer |
| `waits` | the server waited for more bytes until the sender ended |
| `cut 400` | the case ends in the middle of a request, and the sender with it; `cut` alone: no answer |
| **smuggled** | a request that was hidden in a body or a field was answered |

*must*: `refuse`, one answer of 4xx, 501 or 505, then the connection is closed; `serve`, answered as if nothing were
odd; `either`, one of the two. nginx 1.31 runs as a reverse proxy before a server that answers 200 to everything, and
uvicorn 0.54 with httptools and an application that does: where ours says 404 to a chat call, its model does not exist,
and theirs say 200. Both give up on a sender that ends, so their `cut` rows say little.
"""


def cell(case: Case, outcome: Outcome) -> str:
    """An outcome in a few words."""
    runs = [(status, len(list(run))) for status, run in groupby((*outcome.interim, *outcome.statuses))]
    words = [f"{count} × {status}" if count > 2 else " ".join([str(status)] * count) for status, count in runs]
    if case.cut:
        words.insert(0, "cut")
    elif outcome.waited:
        words.append("waits")
    elif not outcome.marked:
        words.append("closes")
    if outcome.junk:
        words.append("junk")
    if outcome.smuggled:
        words.append("**smuggled**")
    return " ".join(words)


def render(outcomes: Mapping[str, Mapping[str, str]]) -> str:
    """The whole page; `outcomes` has the cells of each server by the case's name."""
    count = sum(len(room) for room in ROOMS.values())
    lines = [_INTRODUCTION.format(count=count)]
    for title, room in ROOMS.items():
        lines += [f"## {title}", ""]
        lines += ["| case | what | source | must | nginx | uvicorn | ours |", "|---|---|---|---|---|---|---|"]
        lines += [_row(case, outcomes) for case in room]
        lines.append("")
    return "\n".join(lines)


def _row(case: Case, outcomes: Mapping[str, Mapping[str, str]]) -> str:
    cells = [outcomes[server].get(case.name, "") for server in SERVERS]
    return "| " + " | ".join([f"`{case.name}`", case.sentence, case.source, case.verdict, *cells]) + " |"


def read_table() -> dict[str, dict[str, str]]:
    """The cells of the page as it stands, of each server by the case's name."""
    found: dict[str, dict[str, str]] = {server: {} for server in SERVERS}
    for line in DOCUMENT.read_text("utf-8").splitlines():
        if line.startswith("| `") and line.count("|") == 8:
            name, *_, nginx, uvicorn, ours = (each.strip() for each in line.strip("|").split("|"))
            for server, words in zip(SERVERS, (nginx, uvicorn, ours), strict=True):
                found[server][name.strip("`")] = words
    return found
