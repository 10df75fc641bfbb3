"""The composition root: the only room that names a concrete engine or adapter.

`gateway` serves HTTP; `plant` keeps worker processes running and takes care of the queue; `worker` runs picture jobs;
`parts` builds what they need from the settings; `supervisor` keeps several gateways on one port. The functions here
import those modules when they are called, so that naming this package costs nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sluicegate.backends.fleet import Fleet
    from sluicegate.domain.generation import ModelCard
    from sluicegate.settings import Settings
    from sluicegate.storage.contracts import Store


async def run_gateway(settings: "Settings", *, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain. `on_ready` gets the base URL once connections are accepted.

    Raises `OSError` when the address cannot be listened on, `StoreUnavailable` when the store cannot be opened, and
    `Unavailable` when one of several processes does not start.
    """
    count = settings.server.processes or _cores()
    if count > 1:
        from sluicegate.app.supervisor import Supervisor

        await Supervisor(settings, count).run(on_ready)
        return
    from sluicegate.app.gateway import Gateway

    await Gateway(settings).run(on_ready)


async def run_worker(settings: "Settings") -> None:
    """Run picture jobs until SIGTERM, SIGINT or, when started by a gateway, that gateway's death; then drain."""
    from sluicegate.app.worker import run

    await run(settings)


def open_store(settings: "Settings") -> AbstractAsyncContextManager["Store"]:
    """The opened and migrated store; closed at the end of the block."""
    from sluicegate.app.parts import open_store as opened

    return opened(settings)


def build_fleet(settings: "Settings") -> "Fleet":
    """The chat backends of the settings, not started."""
    from sluicegate.app.parts import build_fleet as build
    from sluicegate.wire.wheel import Wheel

    return build(settings, Wheel())


def picture_cards(settings: "Settings") -> Sequence["ModelCard"]:
    """The picture models of the settings; none is loaded."""
    from sluicegate.app.parts import picture_backends

    return tuple(card for backend in picture_backends(settings) for card in backend.cards())


def _cores() -> int:
    """The cores that this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
