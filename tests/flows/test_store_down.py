"""The store is away under load (locked, full, read-only, stopped): no promise is broken, all heals by itself."""

import contextlib
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.gateway import PATIENCE, RunningGateway, eventually, picture
from tests.postgres import PostgresServer

CONFIG = """
[[backends]]
name = "local-image"
kind = "local-image"
[worker]
lease_seconds = 60
heartbeat_seconds = 0.5
"""
ASK = "import json, sqlite3, sys; print(json.dumps(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchall()))"
Records = list[list[str]]
Trouble = Callable[[RunningGateway], AbstractContextManager[None]]

SMALL_DISK = ("unshare", "-Urm", "sh", "-c", 'mount -t tmpfs -o size=24m tmpfs {data} && exec "$0" "$@"')
NO_SUPERUSER = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all") if os.getuid() == 0 else ()


class Enclosed(RunningGateway):
    """A gateway that another command starts: in a small file system, or without a superuser's rights.

    It logs to a pipe: a log on a full disk would tell nothing.
    """

    def __init__(self, folder: Path, enclosure: Sequence[str] = (), config: str = CONFIG) -> None:
        super().__init__(folder, config, {})
        self.data_dir.mkdir()
        self._is_mounted = enclosure is SMALL_DISK
        self._enclosure = [word.format(data=self.data_dir) for word in enclosure]
        self._kept_log = folder / "kept.log"
        self._keeper: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The command within its enclosure."""
        return [*self._enclosure, *super().command()]

    def start(self) -> None:
        """Begin to keep the log, then as ever."""
        os.mkfifo(self.log_path)
        with self._kept_log.open("wb") as kept:
            self._keeper = subprocess.Popen(["cat", self.log_path], stdout=kept)
        super().start()

    def log(self) -> str:
        """Everything logged so far."""
        return self._kept_log.read_text("utf-8", "replace")

    def end(self) -> int:
        """Stop it, and the keeper of its log; its exit code."""
        code = self.stop()
        if self._keeper is not None:
            self._keeper.wait(PATIENCE)
        return code

    @property
    def seen_data_dir(self) -> Path:
        """The data folder as the gateway sees it."""
        assert self.process is not None
        return Path(f"/proc/{self.process.pid}/root{self.data_dir}")

    def records(self, query: str) -> Records:
        """What the SQLite file says, asked from within the enclosure."""
        assert self.process is not None
        inside = ["nsenter", "-U", "-m", "--preserve-credentials", "-t", str(self.process.pid)]
        ask = [sys.executable, "-c", ASK, str(self.data_dir / "sluicegate.db"), query]
        told = subprocess.run([*inside, *ask] if self._is_mounted else ask, capture_output=True, check=True)
        return [[str(value) for value in row] for row in json.loads(told.stdout)]


@contextlib.contextmanager
def locked(gateway: Enclosed) -> Iterator[None]:
    """Another program holds the write lock, for longer than anybody waits for it."""
    with contextlib.closing(sqlite3.connect(gateway.data_dir / "sluicegate.db", isolation_level=None)) as other:
        other.execute("PRAGMA busy_timeout = 30000")
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextlib.contextmanager
def full(gateway: Enclosed) -> Iterator[None]:
    """Not a byte is left on the disk."""
    filler = gateway.seen_data_dir / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65_536))
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def read_only(gateway: Enclosed) -> Iterator[None]:
    """Writing fails, as on a disk that has been made read-only after an error; new files cannot be opened either."""
    assert gateway.process is not None
    pids = [gateway.process.pid, *gateway.worker_pids()]
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
    files = [path for path in gateway.data_dir.rglob("*") if path.is_file()]
    folders = [gateway.data_dir, *(path for path in gateway.data_dir.rglob("*") if path.is_dir())]
    for pid, (_, most) in limits.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, most))
    for path in files:
        path.chmod(0o400)
    for path in folders:
        path.chmod(0o500)
    yield
    for path in folders:
        path.chmod(0o700)
    for path in files:
        path.chmod(0o600)
    for pid, limit in limits.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)


@pytest.mark.parametrize(
    ("trouble", "enclosure"),
    [(locked, ()), (full, SMALL_DISK), (read_only, NO_SUPERUSER)],
    ids=["locked by another program", "full disk", "read-only"],
)
def test_a_store_that_is_away_refuses_new_work_keeps_what_runs_and_heals_by_itself(
    tmp_path: Path, trouble: Trouble, enclosure: Sequence[str]
) -> None:
    skip_unless_possible(enclosure)
    gateway = Enclosed(tmp_path, enclosure)
    endure(gateway, lambda: trouble(gateway), gateway.records)


def test_a_stopped_postgresql_refuses_new_work_keeps_what_runs_and_all_heals_by_itself(
    tmp_path: Path, postgres: PostgresServer, postgres_database: str
) -> None:
    @contextlib.contextmanager
    def stopped() -> Iterator[None]:
        postgres.stop("immediate")
        try:
            yield
        finally:
            postgres.start()

    def records(query: str) -> Records:
        rows = postgres.sql(f"SET search_path TO sluicegate; {query}", postgres_database)
        return [row.split("|") for row in rows.splitlines()]

    storage = f'[storage]\nurl = "{postgres.url(postgres_database)}"\n'
    endure(Enclosed(tmp_path, config=CONFIG + storage), stopped, records)


def endure(
    gateway: Enclosed, trouble: Callable[[], AbstractContextManager[None]], records: Callable[[str], Records]
) -> None:
    """Let trouble come while one job runs and others wait, and see what is told, then and afterwards."""
    try:
        gateway.start()
        gateway.wait_ready()
        image = gateway.upload(picture(300, 200))
        body = {"model": "realesrgan-x4", "input": {"image": image}}
        jobs = [gateway.submit(body)["id"]]
        jobs += [gateway.submit({"task": "stylize", "input": {"image": image}})["id"] for _ in range(3)]
        eventually(lambda: gateway.get(f"/v1/jobs/{jobs[0]}").json()["progress"], lambda progress: progress is not None)
        with trouble(), ThreadPoolExecutor() as aside:
            asked = aside.submit(gateway.get, "/health/ready")
            refused = gateway.post("/v1/jobs", json=body)
            assert refused.status_code == 503
            assert refused.json()["code"] == "store_unavailable"
            assert float(refused.headers["retry-after"]) > 0
            assert gateway.get("/health/live").status_code == 200
            ready = asked.result()
            assert ready.status_code == 503
            assert "the store does not answer" in ready.json()["reasons"][0]
            eventually(gateway.log, lambda log: "the result waits" in log)
        eventually(lambda: gateway.get("/health/ready").status_code, lambda status: status == 200)
        jobs.append(gateway.submit(body)["id"])
        ended = [gateway.finished(job) for job in jobs]
        assert {job["status"] for job in ended} == {"succeeded"}
        assert {job["metrics"]["attempts"] for job in ended} == {1}
        assert_recorded_once(records, jobs)
    finally:
        code = gateway.end()
    assert code == 0


def assert_recorded_once(records: Callable[[str], Records], jobs: Sequence[str]) -> None:
    """One attempt under the first fence, one success, one charge for each job that was promised, and no other job."""
    assert records("SELECT DISTINCT fence, state FROM job") == [["1", "succeeded"]]
    assert records("SELECT DISTINCT outcome FROM attempt") == [["succeeded"]]
    kept = ("id FROM job", "job FROM attempt", "job FROM ledger", "job FROM job_event WHERE kind = 'job.succeeded'")
    for column in kept:
        assert sorted(job for (job,) in records(f"SELECT {column}")) == sorted(jobs)


def skip_unless_possible(enclosure: Sequence[str]) -> None:
    """A private mount needs a kernel that allows it; elsewhere the other troubles must do, but not in CI."""
    if not enclosure or os.environ.get("CI"):
        return
    able = shutil.which(enclosure[0]) and subprocess.run([*enclosure[:2], "true"], check=False).returncode == 0
    if enclosure is SMALL_DISK and not able:
        pytest.skip("no private mounts here (unshare -Urm)")
