"""Play a case to a server over a raw socket, and tell what came back.

The case's bytes are followed by a marked good request that asks to close the connection. So a server that keeps the
connection answers the mark and closes, one that refuses closes without an answer to it, and the end of what is read is
always an event. A server that still wants bytes is told after a quiet time that none come.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from tests.corpus.answers import Answer, read_answers
from tests.corpus.case import Case

_MARK = "corpus-mark"
MARK = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: %b\r\nConnection: close\r\n\r\n" % _MARK.encode()
QUIET_SECONDS = 10.0
"""No byte in this time: the server waits for more. A right server never lets it come to that."""
_AT_ONCE = 40
_PIECE_SECONDS = 0.01
"""Between two pieces, so that the server mostly reads them apart; no result hangs on it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a server did with a case."""

    interim: tuple[int, ...]
    """Statuses below 200."""
    answers: tuple[Answer, ...]
    """The final answers, without the one to the mark."""
    marked: bool
    """The mark was answered: the connection was open for another request."""
    waited: bool
    """The server was quiet, and waited for bytes, until the sender ended."""
    ended: bool
    """The server closed the connection in the end."""
    junk: bytes
    """What was no answer."""

    @property
    def statuses(self) -> tuple[int, ...]:
        """The statuses of the final answers."""
        return tuple(answer.status for answer in self.answers)

    @property
    def smuggled(self) -> bool:
        """A hidden request was answered; an answer names its path in X-Ran, or a 404 in its body."""
        return any(
            "/smuggled" in answer.fields.get("x-ran", "") or (answer.status == 404 and b"/smuggled" in answer.body)
            for answer in self.answers
        )


async def play(host: str, port: int, case: Case, *, quiet: float = QUIET_SECONDS) -> Outcome:
    """Play one case on a connection of its own. Raises `OSError` when there is no server."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(connection, (host, port))
        sender = asyncio.create_task(_send(connection, case))
        try:
            data, waited, ended = await _receive(connection, quiet)
        finally:
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await sender
    found = read_answers(data, ended=ended, bodiless=case.bodiless)
    own = tuple(answer for answer in found.final if answer.fields.get("x-request-id") != _MARK)
    return Outcome(found.interim, own, len(own) < len(found.final), waited, ended, found.junk)


async def play_all(host: str, port: int, cases: Iterable[Case], *, quiet: float = QUIET_SECONDS) -> dict[str, Outcome]:
    """Play cases, some at a time; what came of each, by name."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def play_in_turn(case: Case) -> tuple[str, Outcome]:
        async with places:
            return case.name, await play(host, port, case, quiet=quiet)

    return dict(await asyncio.gather(*(play_in_turn(case) for case in cases)))


async def _send(connection: socket.socket, case: Case) -> None:
    loop = asyncio.get_running_loop()
    *first, last = case.pieces or (b"",)
    for piece in first:
        await loop.sock_sendall(connection, piece)
        await asyncio.sleep(_PIECE_SECONDS)
    await loop.sock_sendall(connection, last if case.cut else last + MARK)
    if case.cut:
        connection.shutdown(socket.SHUT_WR)


async def _receive(connection: socket.socket, quiet: float) -> tuple[bytes, bool, bool]:
    """All that comes; whether the server had to be told the end; whether it closed."""
    loop = asyncio.get_running_loop()
    data = bytearray()
    waited = False
    while True:
        try:
            async with asyncio.timeout(quiet):
                piece = await loop.sock_recv(connection, 65_536)
        except TimeoutError:
            if waited:
                return bytes(data), True, False
            waited = True
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            continue
        except ConnectionError:
            return bytes(data), waited, True
        if not piece:
            return bytes(data), waited, True
        data += piece
