"""Building the engines and adapters that the settings name."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sluicegate.app.messages import Whereabouts
from sluicegate.backends.backend import ChatBackend, PictureBackend
from sluicegate.backends.fleet import Fleet
from sluicegate.domain.clock import SystemClock
from sluicegate.errors import StoreUnavailable
from sluicegate.results.assets import Assets
from sluicegate.settings import BackendSettings, Settings
from sluicegate.storage.contracts import BlobStore, Signals, Store
from sluicegate.wire.counts import SharedCount
from sluicegate.wire.wheel import Wheel

if TYPE_CHECKING:
    from sluicegate.backends.dialects.models import OllamaModel


def build_store(settings: Settings) -> Store:
    """The database. Raises `StoreUnavailable` when its folder cannot be made."""
    if settings.storage.engine == "postgresql":
        from sluicegate.storage.postgres.store import PostgresStore

        return PostgresStore(settings.storage.url, policy=settings.policy)

    from sluicegate.storage.sqlite.store import SqliteStore

    folder = settings.database_path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f'the folder "{folder}" cannot be made: {error.strerror}; check data_dir') from error
    return SqliteStore(settings.database_path, SystemClock(), policy=settings.policy)


def build_blobs(settings: Settings) -> BlobStore:
    """Where pictures' bytes are kept."""
    from sluicegate.storage.files import FileBlobStore

    return FileBlobStore(settings.assets_path, SystemClock())


def build_signals(settings: Settings) -> Signals:
    """The hints between the processes on one store."""
    if settings.storage.engine == "postgresql":
        from sluicegate.storage.postgres.signals import PostgresSignals

        return PostgresSignals(settings.storage.url)

    from sluicegate.storage.sqlite.signals import SocketSignals

    return SocketSignals(settings.database_path)


def build_assets(settings: Settings, store: Store, blobs: BlobStore) -> Assets:
    """Pictures in and out."""
    return Assets(store, blobs, SystemClock(), max_pixels=settings.worker.max_pixels)


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    """The opened and migrated store."""
    store = build_store(settings)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def build_fleet(settings: Settings, wheel: Wheel, shared: Mapping[str, SharedCount] | None = None) -> Fleet:
    """The chat backends, not started; their limits are kept by `wheel`.

    With `shared`, other processes call them too: then one of those runs the built-in models.
    """
    backends: list[ChatBackend] = []
    for backend in settings.backends:
        match backend.kind:
            case "openai":
                from sluicegate.backends.openai import OpenAIBackend

                backends.append(OpenAIBackend(backend, wheel=wheel))
            case "vllm":
                from sluicegate.backends.vllm import VLLMBackend

                backends.append(VLLMBackend(backend, wheel=wheel))
            case "ollama":
                from sluicegate.backends.ollama import OllamaBackend

                backends.append(OllamaBackend(backend, wheel=wheel))
            case "local-llm":
                backends.append(_local_llm(backend, wheel, is_shared=shared is not None))
            case "local-image":
                pass
    return Fleet(backends, shared)


def _local_llm(settings: BackendSettings, wheel: Wheel, *, is_shared: bool) -> ChatBackend:
    if is_shared:
        from sluicegate.backends.local_llm_shared import LocalLLMElsewhere

        return LocalLLMElsewhere(settings, wheel=wheel)

    from sluicegate.backends.local_llm import LocalLLMBackend

    return LocalLLMBackend(settings, wheel=wheel)


def follow_model(fleet: Fleet, told: Whereabouts) -> None:
    """Let a fleet's backend know where another process runs its model."""
    from sluicegate.backends.local_llm_shared import LocalLLMElsewhere

    for backend in fleet.backends:
        if isinstance(backend, LocalLLMElsewhere) and backend.name == told.backend:
            backend.follow(told.change, told.key)


def model_details(fleet: Fleet) -> Mapping[str, "OllamaModel"]:
    """What the Ollama servers among the backends tell of their models, by name; the first server's word holds."""
    details: dict[str, OllamaModel] = {}
    for backend in fleet.backends:
        if backend.kind == "ollama":
            from sluicegate.backends.ollama import OllamaBackend

            assert isinstance(backend, OllamaBackend)
            details = {**backend.models(), **details}
    return details


def picture_backends(settings: Settings) -> list[PictureBackend]:
    """The picture backends; models load when first used."""
    from sluicegate.backends.local_image import LocalImage

    notes_prompts = settings.results.prompts_in_pictures
    local = (backend for backend in settings.backends if backend.kind == "local-image")
    return [LocalImage(backend, notes_prompts=notes_prompts) for backend in local]
