"""The ASGI application: every route that is not on the lane. Imported when the first of them is asked for."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.types import ASGIApp

from sluicegate.admission.gate import Gate
from sluicegate.backends.dialects.models import OllamaModel
from sluicegate.domain.clock import Clock
from sluicegate.domain.generation import ModelCard
from sluicegate.doors.admin.queue import QueueDoor
from sluicegate.doors.chat.chat import SimpleChatDoor, SimpleChatRoute
from sluicegate.doors.chat.socket import ChatSocketDoor
from sluicegate.doors.jobs.assets import AssetsDoor
from sluicegate.doors.jobs.jobs import JobsDoor
from sluicegate.doors.lane.exchanges import Exchanges
from sluicegate.doors.lane.lane import Lane
from sluicegate.doors.ollama.models import OllamaDoor
from sluicegate.doors.openai.chat import ChatDoor
from sluicegate.doors.openai.image_answers import ImageAnswers
from sluicegate.doors.openai.images import ImagesDoor
from sluicegate.doors.openai.models import ModelsDoor
from sluicegate.doors.operation.openapi import DocsDoor
from sluicegate.doors.operation.operation import OperationDoor
from sluicegate.doors.server import build_server
from sluicegate.doors.siblings import Siblings
from sluicegate.notifications.feed import JobFeed
from sluicegate.observability.access_log import AccessLog
from sluicegate.observability.health import BackendHealth, Uptime
from sluicegate.observability.metrics import Metrics
from sluicegate.results.assets import Assets
from sluicegate.scheduling.forecast import Outlooks
from sluicegate.scheduling.intake import Intake
from sluicegate.scheduling.reasons import Reasons
from sluicegate.settings import Settings
from sluicegate.storage.contracts import Signals, Store

_ANSWER_MARGIN_SECONDS = 60.0
"""How much longer than a job may run an image call waits for it."""


def build_application(
    settings: Settings,
    *,
    store: Store,
    signals: Signals,
    feed: JobFeed,
    assets: Assets,
    intake: Intake,
    outlooks: Outlooks,
    exchanges: Exchanges,
    chat: ChatDoor,
    lane: Lane,
    simple_chat: SimpleChatRoute,
    gate: Gate,
    metrics: Metrics,
    access_log: AccessLog,
    clock: Clock,
    uptime: Uptime,
    cards: Callable[[], tuple[ModelCard, ...]],
    details: Callable[[], Mapping[str, OllamaModel]],
    backends: Callable[[], Awaitable[tuple[BackendHealth, ...]]],
    draining: Callable[[], bool],
    siblings: Siblings,
) -> ASGIApp:
    """Put every door behind one application."""
    server = settings.server
    reasons = Reasons(store, outlooks, settings.policy)
    image_answers = ImageAnswers(
        store,
        feed,
        signals,
        assets,
        clock,
        wait_seconds=settings.worker.job_timeout_seconds + _ANSWER_MARGIN_SECONDS,
    )
    docs = DocsDoor()
    doors = (
        chat,
        ImagesDoor(intake, assets, image_answers, max_upload_bytes=server.max_upload_bytes),
        ModelsDoor(cards, clock.now()),
        SimpleChatDoor(exchanges, siblings),
        OllamaDoor(cards, details, clock),
        JobsDoor(intake, store, feed, signals, outlooks=outlooks, reasons=reasons),
        AssetsDoor(assets, max_upload_bytes=server.max_upload_bytes),
        OperationDoor(
            store=store,
            backends=backends,
            metrics=metrics,
            uptime=uptime,
            draining=draining,
            siblings=siblings,
            tiers=settings.tiers,
        ),
        QueueDoor(store, settings.policy),
        docs,
    )
    endpoints = [endpoint for door in doors for endpoint in door.endpoints()]
    sockets = ChatSocketDoor(lane, simple_chat).sockets()
    docs.describe([*endpoints, *(socket.page() for socket in sockets)])
    return build_server(
        endpoints,
        gate,
        metrics,
        access_log,
        max_body_bytes=server.max_body_bytes,
        client_idle_seconds=server.client_idle_seconds,
        cors_origins=server.cors_origins,
        sockets=sockets,
    )
