"""What is put under stress: real gateways and workers as processes, restarted whenever they die, on one store.

async with Plant(database, seed=7, gateways=1, workers=4) as plant:
    plant.workers[0].kill()
"""

import asyncio
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import httpx
from tests.chaos.callers import DirectCaller
from tests.chaos.databases import Away, Database
from tests.chaos.patience import PATIENCE, until
from tests.chaos.work_log import WorkLog
from tests.chaos.worker_process import FOLDER_VARIABLE
from tests.gateway import free_port

from sluicegate.app.parts import build_signals, build_store
from sluicegate.app.worker import environment
from sluicegate.domain.ids import WorkerId, new_worker_id
from sluicegate.errors import StoreUnavailable
from sluicegate.settings import load_settings
from sluicegate.supervision import Backoff, Change, StreamName, SupervisedProcess

SOON = Backoff(first=0.05, most=0.2, forgive_after=0.0)
_MOST_FALSE_STARTS = 10
_CONFIG = """
data_dir = "{data_dir}"
[[backends]]
name = "local-image"
kind = "local-image"
[worker]
processes = {own_workers}
lease_seconds = {lease}
heartbeat_seconds = {beat}
max_attempts = 50
[server]
drain_seconds = 10
[observability]
log_level = "warning"
log_format = "json"
"""


class Machine:
    """One process of the plant, kept running: when it was killed, and how long each time until it was up again."""

    def __init__(self, argv: list[str], name: str, log: Path) -> None:
        self.recoveries: list[float] = []
        self.kills = 0
        self.process = SupervisedProcess(
            argv,
            name=name,
            environment=self.environment,
            backoff=SOON,
            on_exit=self.exited,
            on_line=self._write,
        )
        self._log = log
        self.is_up = False
        """Whether it has said that it is ready."""
        self._killed_at: float | None = None
        self.process.listen(self._changed)

    def environment(self) -> Mapping[str, str]:
        """The environment for the next start."""
        return os.environ

    async def exited(self, pid: int, code: int) -> None:
        """Called after each death, before the next start."""

    async def up(self) -> None:
        """Return when the process says that it is ready. Raises `TimeoutError`; `RuntimeError` when it never does."""
        before = self.process.restarts

        def is_up() -> bool:
            if self.process.restarts > before + _MOST_FALSE_STARTS:
                raise RuntimeError(f"{self.process.name} does not start: {self.process.last_change.reason}")
            return self.is_up

        await until(is_up, PATIENCE)

    def kill(self) -> bool:
        """SIGKILL; False when there is no process just now."""
        if self.process.pid is None:
            return False
        self._killed_at = time.monotonic()
        self.kills += 1
        self.is_up = False
        self.process.kill()
        return True

    def ask_to_stop(self) -> bool:
        """SIGTERM: the process drains, ends, and is started again; False when there is none."""
        if self.process.pid is None:
            return False
        self.is_up = False
        os.kill(self.process.pid, signal.SIGTERM)
        return True

    def _changed(self, change: Change) -> None:
        if change.state == "up":
            self.is_up = True
            if self._killed_at is not None:
                self.recoveries.append(time.monotonic() - self._killed_at)
                self._killed_at = None
        else:
            self.is_up = False

    def _write(self, stream: StreamName, line: str) -> None:
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{self.process.name} {stream}: {line}\n")


class GatewayMachine(Machine):
    """`sluicegate serve`, on the same port at each start."""

    def __init__(self, plant: "Plant", number: int) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._plant = plant
        argv = [sys.executable, "-m", "sluicegate", "serve", "--ready-json"]
        argv += ["--port", str(self.port), "--config", str(plant.config)]
        super().__init__(argv, f"gateway {number}", plant.folder / "machines.log")

    def environment(self) -> Mapping[str, str]:
        """The store's address is given by a variable, as one that holds a password would be."""
        return {**os.environ, **self._plant.store_variables}


class WorkerMachine(Machine):
    """A worker with small pictures. Each start has an id of its own, so that a dead one's leases are known."""

    def __init__(self, plant: "Plant", number: int) -> None:
        self.id = new_worker_id()
        self.lost: dict[int, float] = {}
        """When each process that was killed was killed: process id to seconds since the epoch."""
        self.reported: set[int] = set()
        """Those of the dead that the store was told of."""
        self._plant = plant
        argv = [sys.executable, "-m", "tests.chaos.worker_process"]
        super().__init__(argv, f"worker {number}", plant.folder / "machines.log")

    def environment(self) -> Mapping[str, str]:
        """The settings, a new id, and where to tell of the work."""
        self.id = new_worker_id()
        return {**environment(self._plant.settings, self.id), FOLDER_VARIABLE: str(self._plant.folder)}

    def kill(self) -> bool:
        """SIGKILL; False when there is no process just now."""
        if self.process.pid is not None:
            self.lost[self.process.pid] = time.time()
        return super().kill()

    async def exited(self, pid: int, code: int) -> None:
        """Report the death to the store, or leave it to the lease, by the plant's draw."""
        if await self._plant.worker_died(self.id):
            self.reported.add(pid)


class Plant:
    """Gateways and workers on one database, the log of what the models do, and a client."""

    def __init__(
        self,
        database: Database,
        *,
        seed: int,
        gateways: int = 1,
        workers: int = 4,
        own_workers: int = 0,
        lease: float = 3.0,
        beat: float = 1.0,
        reported: float = 0.5,
    ) -> None:
        """`own_workers` are started by each gateway itself, with the real built-in models. `reported` is the share of
        dead workers that their supervisor tells the store of; the others' leases run out."""
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        (self.folder / "marks").mkdir()
        self.config = self.folder / "sluicegate.toml"
        data_dir = self.folder / "data"
        self.config.write_text(_CONFIG.format(data_dir=data_dir, own_workers=own_workers, lease=lease, beat=beat))
        self.database = database
        database.place(data_dir)
        self.store_variables = {"SLUICEGATE__STORAGE__URL": database.url}
        self.settings = load_settings(self.config, environment=self.store_variables)
        self.work = WorkLog(self.folder / "work.sock")
        self.store = build_store(self.settings)
        self.signals = build_signals(self.settings)
        self.direct = DirectCaller(self.store, self.signals)
        self.gateways = [GatewayMachine(self, number) for number in range(gateways)]
        self.workers = [WorkerMachine(self, number) for number in range(workers)]
        self.client = httpx.AsyncClient(
            timeout=30.0, trust_env=False, limits=httpx.Limits(max_connections=64, keepalive_expiry=5.0)
        )
        self._rng = random.Random(f"{seed} plant")
        self._reported = reported

    @property
    def machines(self) -> list[Machine]:
        """All processes."""
        return [*self.gateways, *self.workers]

    async def __aenter__(self) -> "Plant":
        logger = logging.getLogger("sluicegate")
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
        try:
            self.work.open()
            await self.store.open()
            await self.signals.open()
            for machine in self.machines:
                await machine.process.start()
            for machine in self.machines:
                await machine.up()
        except BaseException:
            await self._end(keep=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(keep=error is not None and not isinstance(error, asyncio.CancelledError | KeyboardInterrupt))

    async def stop(self) -> None:
        """Have every process drain and end; the store stays open to be asked."""
        await asyncio.gather(*(machine.process.stop(30.0) for machine in self.machines))

    async def worker_died(self, worker: WorkerId) -> bool:
        """As a gateway does for the workers that it started, for the `reported` share of the dead."""
        if self._rng.random() >= self._reported:
            return False
        try:
            await self.store.release(worker)
        except StoreUnavailable:
            return False
        self.signals.notify("jobs", "events")
        return True

    async def count(self, table: str) -> int:
        """Rows of a table; -1 while the database is away or not yet made."""
        try:
            ((count,),) = await self.database.rows(f"SELECT count(*) FROM {table}")
        except Away:
            return -1
        return int(count)

    def explained(self, faults: Sequence[str]) -> list[str]:
        """The faults, and when there are any the last that the processes had to say."""
        log = self.folder / "machines.log"
        said = log.read_text("utf-8")[-3000:] if log.exists() else "nothing"
        return [*faults, f"what the processes said last:\n{said}"] if faults else []

    async def _end(self, *, keep: bool) -> None:
        await self.stop()
        await self.client.aclose()
        await self.signals.close()
        await self.store.close()
        self.work.close()
        await self.database.stop()
        if keep:
            sys.stderr.write(f"what the processes said, and their data, are kept in {self.folder}\n")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
