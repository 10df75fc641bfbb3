"""The whole corpus: its rooms in the order in which a request is read."""

from collections.abc import Mapping, Sequence

from tests.corpus import chunks, connections, framing, heads, jobs, limits, senders, targets
from tests.corpus.case import Case

ROOMS: Mapping[str, Sequence[Case]] = {
    "Request lines and fields": heads.CASES,
    "Targets": targets.CASES,
    "Body lengths and codings": framing.CASES,
    "Chunks": chunks.CASES,
    "Bodies read piece by piece": jobs.CASES,
    "Connections": connections.CASES,
    "Other protocols, early ends, slow senders": senders.CASES,
    "Limits": limits.CASES,
}


def load_corpus() -> dict[str, Case]:
    """Every case by its name. Raises `ValueError` when two have one name."""
    corpus: dict[str, Case] = {}
    for room in ROOMS.values():
        for case in room:
            if case.name in corpus:
                raise ValueError(f"two cases are named {case.name}; rename one")
            corpus[case.name] = case
    return corpus
