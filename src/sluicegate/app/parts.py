"""Building the engines and adapters that the settings name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sluicegate.backends.backend import ChatBackend, PictureBackend
from sluicegate.backends.fleet import Fleet
from sluicegate.domain.clock import SystemClock
from sluicegate.errors import StoreUnavailable
from sluicegate.results.assets import Assets
from sluicegate.settings import Settings
from sluicegate.storage.contracts import BlobStore, Signals, Store


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


def build_fleet(settings: Settings) -> Fleet:
    """The chat backends, not started."""
    backends: list[ChatBackend] = []
    for backend in settings.backends:
        match backend.kind:
            case "openai":
                from sluicegate.backends.openai import OpenAIBackend

                backends.append(OpenAIBackend(backend))
            case "local-llm":
                from sluicegate.backends.local_llm import LocalLLMBackend

                backends.append(LocalLLMBackend(backend))
            case "local-image":
                pass
    return Fleet(backends)


def picture_backends(settings: Settings) -> list[PictureBackend]:
    """The picture backends; models load when first used."""
    from sluicegate.backends.local_image import LocalImage

    notes_prompts = settings.results.prompts_in_pictures
    local = (backend for backend in settings.backends if backend.kind == "local-image")
    return [LocalImage(backend, notes_prompts=notes_prompts) for backend in local]
