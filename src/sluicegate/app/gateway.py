"""The gateway process: every room joined, started in order, and stopped in the reverse one.

start   store ▸ signals ▸ backends ▸ worker processes ▸ caretaker ▸ port
stop    ready turns red, new work is refused ▸ followers released, chat and workers drain side by side
        ▸ port closed ▸ everything else
"""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import uvicorn

from sluicegate.admission.gate import Gate
from sluicegate.app.parts import build_assets, build_blobs, build_fleet, build_signals, build_store, picture_backends
from sluicegate.app.pools import warn_of_pools
from sluicegate.app.worker import environment
from sluicegate.domain.clock import SystemClock
from sluicegate.domain.generation import ModelCard
from sluicegate.domain.ids import WorkerId, new_worker_id
from sluicegate.doors.admin.queue import QueueDoor
from sluicegate.doors.chat.chat import SimpleChatDoor
from sluicegate.doors.exchanges import Exchanges
from sluicegate.doors.jobs.assets import AssetsDoor
from sluicegate.doors.jobs.jobs import JobsDoor
from sluicegate.doors.openai.chat import ChatDoor
from sluicegate.doors.openai.image_answers import ImageAnswers
from sluicegate.doors.openai.images import ImagesDoor
from sluicegate.doors.openai.models import ModelsDoor
from sluicegate.doors.operation.openapi import DocsDoor
from sluicegate.doors.operation.operation import OperationDoor
from sluicegate.doors.relay import Relay
from sluicegate.doors.server import build_server
from sluicegate.errors import StoreUnavailable
from sluicegate.notifications.feed import JobFeed
from sluicegate.observability.health import BackendHealth, Uptime
from sluicegate.observability.logs import Log
from sluicegate.observability.metrics import Metrics
from sluicegate.results.sweep import Sweep
from sluicegate.scheduling.balancer import Balancer
from sluicegate.scheduling.caretaker import Caretaker
from sluicegate.scheduling.costs import Costs
from sluicegate.scheduling.forecast import Outlooks
from sluicegate.scheduling.intake import Intake
from sluicegate.scheduling.reasons import Reasons
from sluicegate.scheduling.shedding import Shedding
from sluicegate.scheduling.wait_times import WaitTimes
from sluicegate.scheduling.waiting import WORKER_SEEN_SECONDS
from sluicegate.settings import Settings
from sluicegate.supervision import StreamName, SupervisedProcess

_log = Log("sluicegate.gateway")
_BACKLOG = 2_048
_STOP_MARGIN_SECONDS = 2.0
_ANSWER_MARGIN_SECONDS = 60.0
"""How much longer than a job may run an image call waits for it."""


class Gateway:
    """One gateway process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        clock = SystemClock()
        self._store = build_store(settings)
        self._signals = build_signals(settings)
        blobs = build_blobs(settings)
        assets = build_assets(settings, self._store, blobs)
        self._fleet = build_fleet(settings)
        self._pictures = picture_backends(settings)
        self._metrics = Metrics()
        self._exchanges = Exchanges(self._metrics, limit=settings.server.max_streams)
        self._feed = JobFeed(self._store, self._signals, clock)
        self._caretaker = Caretaker(
            self._store,
            self._signals,
            Sweep(self._store, blobs),
            clock,
            lease_seconds=settings.worker.lease_seconds,
            policy=settings.policy,
        )
        self._workers = [_WorkerProcess(settings, self) for _ in range(self._worker_count())]
        self._draining = False
        idle = settings.server.client_idle_seconds
        relay = Relay(Balancer(self._fleet), self._exchanges, self._metrics, clock, client_idle_seconds=idle)
        picture_cards = [card for backend in self._pictures for card in backend.cards()]
        attempts = settings.worker.max_attempts
        outlooks = Outlooks(self._store, clock)
        reasons = Reasons(self._store, outlooks, settings.policy)
        self._waits = WaitTimes(self._store, self._metrics.waited)
        self._intake = Intake(
            self._store,
            assets,
            self._signals,
            picture_cards,
            costs=Costs(self._store, settings.policy, clock),
            shedding=Shedding(outlooks, self._store),
            max_attempts=attempts,
            on_stored=self._waits.expect,
        )
        image_answers = ImageAnswers(
            self._store,
            self._feed,
            self._signals,
            assets,
            clock,
            wait_seconds=settings.worker.job_timeout_seconds + _ANSWER_MARGIN_SECONDS,
        )
        docs = DocsDoor()
        doors = (
            ChatDoor(relay, picture_cards),
            ImagesDoor(self._intake, assets, image_answers, max_upload_bytes=settings.server.max_upload_bytes),
            ModelsDoor(self.cards, clock.now()),
            SimpleChatDoor(relay, self._exchanges, self._fleet.cards, clock),
            JobsDoor(self._intake, self._store, self._feed, self._signals, outlooks=outlooks, reasons=reasons),
            AssetsDoor(assets, max_upload_bytes=settings.server.max_upload_bytes),
            OperationDoor(
                store=self._store,
                fleet=self._fleet,
                backends=self.backends,
                metrics=self._metrics,
                uptime=Uptime(clock),
                draining=lambda: self._draining,
                tiers=settings.tiers,
            ),
            QueueDoor(self._store, settings.policy),
            docs,
        )
        endpoints = [endpoint for door in doors for endpoint in door.endpoints()]
        docs.describe(endpoints)
        self._app = build_server(
            endpoints,
            Gate(
                host=settings.server.host,
                cors_origins=settings.server.cors_origins,
                local_tier=settings.local_tier,
            ),
            self._metrics,
            max_body_bytes=settings.server.max_body_bytes,
            client_idle_seconds=idle,
            cors_origins=settings.server.cors_origins,
        )

    def cards(self) -> tuple[ModelCard, ...]:
        """Every model: those of the chat backends as they tell them now, and the picture models."""
        return (*self._fleet.cards(), *(card for backend in self._pictures for card in backend.cards()))

    async def backends(self) -> tuple[BackendHealth, ...]:
        """Every backend's state. A picture backend is up while a worker that serves its models, in its pool, is."""
        told = self._fleet.health()
        chat = [
            BackendHealth(
                name=backend.name,
                kind=backend.kind,
                state=told[backend.name].state,
                models=tuple(card.id for card in backend.cards()),
                reason=told[backend.name].reason,
            )
            for backend in self._fleet.backends
        ]
        return (*chat, *await self._picture_health())

    async def run(self, on_ready: Callable[[str], None] | None) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""
        listener = self._listen()
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(listener.close)
            await self._store.open()
            stack.push_async_callback(self._store.close)
            await self._signals.open()
            stack.push_async_callback(self._signals.close)
            with contextlib.suppress(StoreUnavailable):
                await warn_of_pools(self._settings, self._store)
            await self._fleet.start()
            stack.push_async_callback(self._fleet.stop)
            for worker in self._workers:
                await worker.process.start()
            stack.push_async_callback(self._stop_workers)
            for loop in (self._caretaker.run(), self._waits.run()):
                stack.callback(asyncio.create_task(loop).cancel)
            await self._serve(listener, on_ready)
        _log.info("gateway stopped")

    async def worker_died(self, worker: WorkerId) -> None:
        """Return a dead worker's jobs to the queue at once."""
        with contextlib.suppress(StoreUnavailable):
            recovery = await self._store.release(worker)
            await self._store.dismiss(worker)
            if recovery.total:
                _log.warning("a worker died, its jobs go back", worker=worker, jobs=recovery.total)
                self._signals.notify("jobs", "events")

    async def _serve(self, listener: socket.socket, on_ready: Callable[[str], None] | None) -> None:
        drain_seconds = self._settings.server.drain_seconds
        config = uvicorn.Config(
            self._app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        started = asyncio.create_task(server.listening.wait())
        await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
        url = self._base_url(listener)
        _log.info("gateway ready", url=url, models=",".join(card.id for card in self.cards()))
        if on_ready is not None:
            on_ready(url)
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        started.cancel()
        await self._drain(server, serving, drain_seconds)

    async def _drain(self, server: "_Server", serving: "asyncio.Task[None]", seconds: float) -> None:
        """Let what runs end, in time for everything after it to end within `seconds` too."""
        _log.info("draining", seconds=seconds)
        seconds = max(seconds / 2, seconds - _STOP_MARGIN_SECONDS)
        self._draining = True
        self._exchanges.close()
        self._intake.close()
        self._feed.close()
        await asyncio.gather(self._exchanges.drain(seconds), self._stop_workers())
        # A body that is still being sent is refused now.
        server.should_exit = True
        await serving

    async def _stop_workers(self) -> None:
        grace = max(0.0, self._settings.server.drain_seconds - 1.0)
        await asyncio.gather(*(worker.process.stop(grace) for worker in self._workers))

    async def _picture_health(self) -> list[BackendHealth]:
        served: set[tuple[str, str]] = set()
        reason = "no worker serves it"
        try:
            for worker in await self._store.workers(seen_within=WORKER_SEEN_SECONDS):
                served.update((pool, model) for pool in worker.pools for model in worker.models)
        except StoreUnavailable as error:
            reason = error.message
        starting = any(worker.process.state == "starting" for worker in self._workers)
        healths: list[BackendHealth] = []
        for backend in self._pictures:
            models = tuple(card.id for card in backend.cards())
            is_up = served.issuperset((card.pool, card.id) for card in backend.cards())
            healths.append(
                BackendHealth(
                    name=backend.name,
                    kind=backend.kind,
                    state="up" if is_up else "starting" if starting else "down",
                    models=models,
                    reason="" if is_up else reason,
                )
            )
        return healths

    def _worker_count(self) -> int:
        return self._settings.worker.processes if self._pictures else 0

    def _listen(self) -> socket.socket:
        host, port = self._settings.server.host, self._settings.server.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)

    def _base_url(self, listener: socket.socket) -> str:
        host, port = listener.getsockname()[:2]
        if host in ("0.0.0.0", "::"):  # noqa: S104 - shown, not bound
            host = "127.0.0.1"
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers (ours drain first); says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the gateway."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell."""
        await super().startup(sockets)
        self.listening.set()


class _WorkerProcess:
    """One supervised worker; each start has an id of its own, so that a dead one's leases are known."""

    def __init__(self, settings: Settings, gateway: Gateway) -> None:
        self._settings = settings
        self._gateway = gateway
        self._id = new_worker_id()
        self.process = SupervisedProcess(
            [sys.executable, "-m", "sluicegate.app.worker"],
            name="worker",
            environment=self._environment,
            on_exit=self._exited,
            on_line=self._pass_on,
        )

    def _environment(self) -> dict[str, str]:
        self._id = new_worker_id()
        return dict(environment(self._settings, self._id))

    async def _exited(self, pid: int, returncode: int) -> None:
        await self._gateway.worker_died(self._id)

    def _pass_on(self, stream: StreamName, line: str) -> None:
        """A worker writes finished log lines; they go where ours go."""
        sys.stderr.write(line + "\n")
