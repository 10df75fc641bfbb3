"""The gateway process: every room joined, started in order, and stopped in the reverse one.

start   store ▸ signals ▸ backends ▸ plant (worker processes, caretaker) ▸ port
stop    ready turns red, new work is refused ▸ followers released, chat and workers drain side by side
        ▸ port closed ▸ everything else

It may be one of several under a `Supervisor` that each have such a process's `Place`: then the port and the plant are
the supervisor's, and what is asked of one gateway is asked of all, over its `Line`.
"""

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from sluicegate.admission.gate import Gate
from sluicegate.app.descriptors import raise_descriptor_limit
from sluicegate.app.listeners import base_url, listen, tls_context
from sluicegate.app.messages import PlantTold
from sluicegate.app.parts import (
    build_assets,
    build_blobs,
    build_fleet,
    build_signals,
    build_store,
    follow_model,
    model_details,
    picture_backends,
)
from sluicegate.app.place import Place
from sluicegate.app.plant import Plant
from sluicegate.domain.clock import SystemClock
from sluicegate.domain.generation import ModelCard
from sluicegate.doors.chat.chat import SimpleChatRoute
from sluicegate.doors.http.limits import HttpLimits
from sluicegate.doors.http.server import HttpServer
from sluicegate.doors.lane.exchanges import Exchanges
from sluicegate.doors.lane.lane import Lane
from sluicegate.doors.ollama.shape import ollama_routes
from sluicegate.doors.openai.chat import ChatDoor
from sluicegate.doors.siblings import NoSiblings
from sluicegate.errors import StoreUnavailable
from sluicegate.notifications.feed import JobFeed
from sluicegate.observability.access_log import AccessLog
from sluicegate.observability.health import BackendHealth, Uptime
from sluicegate.observability.logs import Log
from sluicegate.observability.metrics import Metrics
from sluicegate.scheduling.balancer import Balancer
from sluicegate.scheduling.costs import Costs
from sluicegate.scheduling.forecast import Outlooks
from sluicegate.scheduling.intake import Intake
from sluicegate.scheduling.shedding import Shedding
from sluicegate.scheduling.wait_times import WaitTimes
from sluicegate.scheduling.waiting import WORKER_SEEN_SECONDS
from sluicegate.settings import Settings
from sluicegate.wire.rests import shared_rests
from sluicegate.wire.wheel import Wheel

if TYPE_CHECKING:
    import ssl

    from starlette.types import ASGIApp

    from sluicegate.app.line import Line

_log = Log("sluicegate.gateway")
_STOP_MARGIN_SECONDS = 2.0
_COLLECT_AFTER = (20_000, 20, 50)
"""Calls leave no cycles behind, so looking for some after every 700 objects is in vain."""


class Gateway:
    """One gateway process."""

    def __init__(self, settings: Settings, place: Place | None = None) -> None:
        self._settings = settings
        self._place = place
        clock = self._clock = SystemClock()
        self._uptime = Uptime(clock)
        self._store = build_store(settings)
        self._signals = build_signals(settings)
        blobs = build_blobs(settings)
        assets = self._assets = build_assets(settings, self._store, blobs)
        self._wheel = Wheel()
        shared = place.counts() if place else None
        self._fleet = build_fleet(settings, self._wheel, shared.calls if shared else None)
        self._pictures = picture_backends(settings)
        self._metrics = Metrics()
        self._metrics.read_backends_from(self._fleet.gauges)
        self._metrics.read_rests_from(shared_rests().rests_taken)
        streams = shared.streams if shared else None
        self._exchanges = Exchanges(self._metrics, limit=settings.server.max_streams, shared=streams)
        self._feed = JobFeed(self._store, self._signals, clock)
        self._plant = None if place else Plant(settings, self._store, self._signals, blobs, clock)
        self._line = self._connected(place) if place else None
        self._workers_start = False
        self._draining = False
        picture_cards = [card for backend in self._pictures for card in backend.cards()]
        attempts = settings.worker.max_attempts
        outlooks = self._outlooks = Outlooks(self._store, clock)
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
        self._access_log = AccessLog()
        self._gate = Gate(
            host=settings.server.host,
            cors_origins=settings.server.cors_origins,
            local_tier=settings.local_tier,
        )
        self._chat = ChatDoor(picture_cards)
        self._lane = Lane(
            gate=self._gate,
            balancer=Balancer(self._fleet),
            exchanges=self._exchanges,
            metrics=self._metrics,
            access_log=self._access_log,
            wheel=self._wheel,
            cors_origins=settings.server.cors_origins,
        )
        simple = self._simple_chat = SimpleChatRoute(self._fleet.cards, clock)
        pictures = [card.id for card in picture_cards]
        self._lane.serve_routes([*self._chat.routes(), *ollama_routes(self._fleet, clock, pictures, simple=simple)])
        limits = HttpLimits(
            max_body_bytes=settings.server.max_body_bytes,
            head_seconds=settings.server.head_seconds,
            idle_seconds=settings.server.client_idle_seconds,
        )
        self._server = HttpServer(self._lane, self._make_app, limits, self._wheel)

    def _connected(self, place: Place) -> "Line":
        """The line to the other processes."""
        from sluicegate.app.line import Line

        return Line(place.line, own=self._metrics.dump, stop_call=self._exchanges.cancel, on_plant=self._follow_plant)

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
                load=told[backend.name].load,
            )
            for backend in self._fleet.backends
        ]
        return (*chat, *await self._picture_health())

    async def run(self, on_ready: Callable[[str], None] | None) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""
        raise_descriptor_limit(self._settings)
        tls = tls_context(self._settings.server.tls)
        listener = self._place.listening() if self._place else listen(self._settings.server)[0]
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(listener.close)
            await self._store.open()
            stack.push_async_callback(self._store.close)
            await self._signals.open()
            stack.push_async_callback(self._signals.close)
            await self._fleet.start()
            stack.push_async_callback(self._fleet.stop)
            for neighbour in (self._plant, self._line):
                if neighbour is not None:
                    await neighbour.start()
                    stack.push_async_callback(neighbour.stop)
            stack.callback(asyncio.create_task(self._waits.run()).cancel)
            await self._serve(listener, tls, on_ready)
        _log.info("gateway stopped")

    async def _serve(
        self, listener: socket.socket, tls: "ssl.SSLContext | None", on_ready: Callable[[str], None] | None
    ) -> None:
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        await self._server.listen(listener, tls)
        # What was made so far stays for the life of the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECT_AFTER)
        url = base_url(listener, is_secure=tls is not None)
        _log.info("gateway ready", url=url, models=",".join(card.id for card in self.cards()))
        if on_ready is not None:
            on_ready(url)
        await stopping.wait()
        await self._drain(self._settings.server.drain_seconds)

    async def _drain(self, seconds: float) -> None:
        """Let what runs end, in time for everything after it to end within `seconds` too."""
        _log.info("draining", seconds=seconds)
        seconds = max(seconds / 2, seconds - _STOP_MARGIN_SECONDS)
        self._draining = True
        self._server.say_goodbye()
        self._exchanges.close()
        self._intake.close()
        self._feed.close()
        await asyncio.gather(self._exchanges.drain(seconds), *([self._plant.stop_workers()] if self._plant else []))
        # A body that is still being sent is refused now.
        await self._server.close()
        self._access_log.close()

    def _make_app(self) -> "ASGIApp":
        """Every route that is not on the lane."""
        from sluicegate.app.application import build_application

        settings = self._settings
        return build_application(
            settings,
            store=self._store,
            signals=self._signals,
            feed=self._feed,
            assets=self._assets,
            intake=self._intake,
            outlooks=self._outlooks,
            exchanges=self._exchanges,
            chat=self._chat,
            lane=self._lane,
            simple_chat=self._simple_chat,
            gate=self._gate,
            metrics=self._metrics,
            access_log=self._access_log,
            clock=self._clock,
            uptime=self._uptime,
            cards=self.cards,
            details=lambda: model_details(self._fleet),
            backends=self.backends,
            draining=lambda: self._draining,
            siblings=self._line or NoSiblings(self._metrics.dump),
        )

    def _follow_plant(self, told: PlantTold) -> None:
        """How the models and workers stand that run elsewhere."""
        self._workers_start = told.workers_start
        for model in told.models:
            follow_model(self._fleet, model)

    async def _picture_health(self) -> list[BackendHealth]:
        served: set[tuple[str, str]] = set()
        reason = "no worker serves it"
        try:
            for worker in await self._store.workers(seen_within=WORKER_SEEN_SECONDS):
                served.update((pool, model) for pool in worker.pools for model in worker.models)
        except StoreUnavailable as error:
            reason = error.message
        starting = self._plant.starts if self._plant else self._workers_start
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
