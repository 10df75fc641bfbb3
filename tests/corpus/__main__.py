"""Play the corpus of odd and malformed requests to nginx, uvicorn and a gateway.

    python -m tests.corpus                           a gateway of its own, and the peers; prints what differs
    python -m tests.corpus host-empty te-cl          these cases only, with all that came back
    python -m tests.corpus --address 127.0.0.1:8000  a server that runs already
    python -m tests.corpus --write                   also writes docs/guides/malformed-requests.md

The exit code is 1 when the gateway does what a case does not allow.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from tests.corpus.case import Case
from tests.corpus.conversation import Outcome, play_all
from tests.corpus.corpus import load_corpus
from tests.corpus.judgement import faults
from tests.corpus.peers import running_proxy, running_uvicorn
from tests.corpus.table import DOCUMENT, cell, render
from tests.gateway import running_gateway

_PEERS_QUIET_SECONDS = 2.0


def main() -> int:
    """Run what the arguments name; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description="Play odd requests to servers.")
    parser.add_argument("names", nargs="*", metavar="CASE", help="cases to play; all without any")
    parser.add_argument("--address", help="HOST:PORT of a server that runs already; else a gateway is started")
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.name}")
    arguments = parser.parse_args()
    corpus = load_corpus()
    if unknown := [name for name in arguments.names if name not in corpus]:
        parser.error(f"there is no case {unknown[0]}; the cases stand in tests/corpus/")
    if arguments.write and arguments.names:
        parser.error("--write needs the whole corpus; name no case")
    cases = [corpus[name] for name in arguments.names] or list(corpus.values())
    outcomes = {**asyncio.run(_peers(cases)), "ours": _ours(cases, arguments.address)}
    broken = {case.name: found for case in cases if (found := faults(case, outcomes["ours"][case.name]))}
    _tell(cases, outcomes, broken, every=bool(arguments.names))
    if arguments.write:
        cells = {server: {case.name: cell(case, of[case.name]) for case in cases} for server, of in outcomes.items()}
        DOCUMENT.write_text(render(cells), "utf-8")
    return 1 if broken else 0


async def _peers(cases: Sequence[Case]) -> dict[str, dict[str, Outcome]]:
    async with running_proxy() as nginx:
        of_nginx = await play_all("127.0.0.1", nginx, cases, quiet=_PEERS_QUIET_SECONDS)
    async with running_uvicorn() as uvicorn:
        of_uvicorn = await play_all("127.0.0.1", uvicorn, cases, quiet=_PEERS_QUIET_SECONDS)
    return {"nginx": of_nginx, "uvicorn": of_uvicorn}


def _ours(cases: Sequence[Case], address: str | None) -> dict[str, Outcome]:
    if address is not None:
        host, _, port = address.rpartition(":")
        return asyncio.run(play_all(host, int(port), cases))
    with (
        tempfile.TemporaryDirectory() as folder,
        running_gateway(Path(folder), "[worker]\nprocesses = 0\n") as gateway,
    ):
        return asyncio.run(play_all("127.0.0.1", gateway.port, cases))


def _tell(
    cases: Sequence[Case],
    outcomes: Mapping[str, Mapping[str, Outcome]],
    broken: Mapping[str, Sequence[str]],
    *,
    every: bool,
) -> None:
    for case in cases:
        found = broken.get(case.name, ())
        if not (every or found):
            continue
        click.echo(f"{case.name}: {case.sentence} ({case.source}); must: {case.verdict}")
        for server, of in outcomes.items():
            click.echo(f"  {server:8} {cell(case, of[case.name])}")
        for fault in found:
            click.echo(f"  WRONG    {fault}")
    click.echo(f"{len(cases)} cases, {len(broken)} wrong")


if __name__ == "__main__":
    sys.exit(main())
