"""The composition root: the only room that names a concrete engine or adapter.

`gateway` serves HTTP, keeps worker processes running and takes care of the queue; `worker` runs picture jobs;
`parts` builds what both need from the settings. The functions here import those modules when they are called,
so that naming this package costs nothing.
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

    Raises `OSError` when the address cannot be listened on, `StoreUnavailable` when the store cannot be opened.
    """
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

    return build(settings)


def picture_cards(settings: "Settings") -> Sequence["ModelCard"]:
    """The picture models of the settings; none is loaded."""
    from sluicegate.app.parts import picture_backends

    return tuple(card for backend in picture_backends(settings) for card in backend.cards())
