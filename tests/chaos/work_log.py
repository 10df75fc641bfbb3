"""What the model processes say of their work while they do it, as datagrams on a Unix socket.

A note that was sent before a SIGKILL is heard all the same, so the log knows what the database cannot: that work began
under an attempt that left no record of its own, and when it truly stopped.
"""

import asyncio
import contextlib
import socket
import time
from pathlib import Path
from typing import Literal

import msgspec

Kind = Literal["taken", "began", "ended", "stopped"]
"""taken: a worker handed the job to its model. began: the model draws. ended: it has drawn. stopped: it was told to."""


class Note(msgspec.Struct, frozen=True):
    """One line of the log. `at` is in seconds since the epoch, by the one clock of this machine."""

    kind: Kind
    key: str
    pid: int
    at: float


class NoteSender:
    """The model process's end."""

    def __init__(self, path: Path, pid: int) -> None:
        self._path = str(path)
        self._pid = pid
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def note(self, kind: Kind, key: str) -> None:
        """Say what happens now; waits while the reader is behind, and is silent when there is none."""
        with contextlib.suppress(FileNotFoundError, ConnectionError):
            self._socket.sendto(msgspec.json.encode(Note(kind, key, self._pid, time.time())), self._path)


class WorkLog:
    """The supervisor's end: every note in the order of arrival, and whoever waits for one."""

    def __init__(self, path: Path) -> None:
        self.notes: list[Note] = []
        self.finished: set[str] = set()
        """Keys that were drawn to the end at least once."""
        self._path = path
        self._decoder = msgspec.json.Decoder(Note)
        self._awaited: dict[tuple[Kind, str], asyncio.Future[Note]] = {}
        self._heard: dict[tuple[Kind, str], Note] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def open(self) -> None:
        """Begin to listen, on the running event loop."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind(str(self._path))
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._receive)

    def close(self) -> None:
        """Take in what was sent, and stop listening."""
        self._receive()
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._path.unlink(missing_ok=True)

    async def heard(self, kind: Kind, key: str, patience: float) -> Note:
        """The latest such note about the key, as soon as there is one. Raises `TimeoutError`."""
        known = self._heard.get((kind, key))
        if known is not None:
            return known
        future = self._awaited.setdefault((kind, key), asyncio.get_running_loop().create_future())
        async with asyncio.timeout(patience):
            return await asyncio.shield(future)

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._take(self._decoder.decode(self._socket.recv(4096)))

    def _take(self, note: Note) -> None:
        self.notes.append(note)
        self._heard[note.kind, note.key] = note
        if note.kind == "ended":
            self.finished.add(note.key)
        future = self._awaited.pop((note.kind, note.key), None)
        if future is not None and not future.done():
            future.set_result(note)
