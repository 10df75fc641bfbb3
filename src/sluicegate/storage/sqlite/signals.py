"""`Signals` between the processes of one machine, over Unix datagram sockets.

Each process binds one socket in a private folder named after the database; a hint is one small datagram to every
other socket there. Nothing is queued for a process that is busy: its buffer holds a hint already. Sockets whose
owner has died refuse, and are removed by whoever notices.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from sluicegate.storage.contracts import Topic
from sluicegate.storage.hints import TOPICS, Hints

MAX_SOCKET_PATH = 103
"""Most bytes of a socket's path: 107 on Linux, 103 on macOS and the BSDs."""

_LETTERS: Mapping[Topic, bytes] = {"jobs": b"j", "events": b"e"}
_log = logging.getLogger(__name__)


def runtime_folder(database: Path) -> Path:
    """Where the sockets of a database's processes stand: below $XDG_RUNTIME_DIR, else the temporary folder."""
    digest = hashlib.sha256(os.fsencode(database.resolve())).hexdigest()[:16]
    parent = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(parent) / f"sluicegate-{os.getuid()}-{digest}"


class SocketSignals:
    """Hints for every process that opens `SocketSignals` on the same database path.

    When no socket can be had (no private folder, a path over 103 bytes), that is logged once and hints stay
    within this process: others find the change by polling.
    """

    def __init__(self, database: Path) -> None:
        self._folder = runtime_folder(database)
        self._lock = threading.Lock()
        self._hints = Hints()
        self._unsent: set[Topic] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket: socket.socket | None = None
        self._path: Path | None = None

    async def open(self) -> None:
        """Bind this process's socket and listen on the running event loop."""
        self._loop = asyncio.get_running_loop()
        try:
            self._socket, self._path = self._bind()
        except OSError as error:
            _log.warning("no wake-ups between processes: %s; work is found by polling", error)
            return
        self._loop.add_reader(self._socket.fileno(), self._receive, self._socket)

    async def close(self) -> None:
        """Remove the socket, and the folder when it is empty; wake whoever still waits."""
        loop, self._loop = self._loop, None
        endpoint, self._socket = self._socket, None
        if endpoint is not None and loop is not None:
            loop.remove_reader(endpoint.fileno())
            endpoint.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None
            with contextlib.suppress(OSError):  # others are still there
                self._folder.rmdir()
        self._hints.bump(TOPICS)
        self._hints.wake(TOPICS)

    def notify(self, *topics: Topic) -> None:
        """Wake every process that waits on the topics, this one included. May be called from any thread."""
        self._hints.bump(topics)
        with self._lock:
            first = not self._unsent
            self._unsent.update(topics)
        if first:
            self._call(self._flush)

    def version(self, topic: Topic) -> int:
        """A counter that rises with each hint; read it before looking at the store."""
        return self._hints.version(topic)

    async def wait(self, topic: Topic, seen: int, timeout: float) -> None:
        """Return when the counter differs from `seen`, or after `timeout` seconds."""
        await self._hints.wait(topic, seen, timeout)

    def _bind(self) -> tuple[socket.socket, Path]:
        for _ in range(8):
            with contextlib.suppress(FileNotFoundError):  # the last listener removed the folder just then
                return _bind(_private(self._folder))
        return _bind(_private(self._folder))

    def _call(self, callback: Callable[[], None]) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed by another thread
                loop.call_soon_threadsafe(callback)

    def _flush(self) -> None:
        """Send the hints of one turn of the event loop as one datagram to each process."""
        with self._lock:
            topics, self._unsent = self._unsent, set()
        self._hints.wake(topics)
        if self._socket is not None and topics:
            self._send(self._socket, b"".join(_LETTERS[topic] for topic in topics))

    def _receive(self, endpoint: socket.socket) -> None:
        letters = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                letters += endpoint.recv(16)
        topics = [topic for topic, letter in _LETTERS.items() if letter in letters]
        if topics:
            self._hints.bump(topics)
            self._hints.wake(topics)

    def _send(self, endpoint: socket.socket, message: bytes) -> None:
        try:
            names = os.listdir(self._folder)  # noqa: PTH208 -- on the path of every submission: names are enough
        except OSError as error:
            _log.debug("the sockets in %s cannot be listed: %s", self._folder, error)
            return
        for name in names:
            peer = self._folder / name
            if peer == self._path or not name.endswith(".sock"):
                continue
            try:
                endpoint.sendto(message, str(peer))
            except ConnectionRefusedError:
                peer.unlink(missing_ok=True)
            except OSError as error:
                _log.debug("no hint to %s: %s", name, error)


def _private(folder: Path) -> Path:
    """Make the folder, or see that it is this user's alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise OSError(f"{folder} is not a folder of this user alone; remove it")
    return folder


def _bind(folder: Path) -> tuple[socket.socket, Path]:
    """A non-blocking datagram socket in the folder. It gets its name after it is bound, so that nobody takes it
    for a dead one meanwhile."""
    path = folder / f"{os.getpid()}-{secrets.token_hex(4)}.sock"
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise OSError(f"the path {path} is longer than {MAX_SOCKET_PATH} bytes; set XDG_RUNTIME_DIR to a shorter one")
    endpoint = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    unnamed = path.with_suffix(".new")
    try:
        endpoint.setblocking(False)
        endpoint.bind(str(unnamed))
        unnamed.rename(path)
    except OSError:
        endpoint.close()
        unnamed.unlink(missing_ok=True)
        raise
    return endpoint, path
